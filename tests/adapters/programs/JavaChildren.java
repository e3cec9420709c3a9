/* Starts programs while it allocates, by fork or by a helper as its own number has it; is then ended by a signal, and runs its hook. */
import java.io.InputStream;
import java.util.concurrent.TimeUnit;

public class JavaChildren {
  static volatile boolean over = false;

  static String run(String... command) throws Exception {
    Process process = new ProcessBuilder(command).redirectErrorStream(true).start();
    process.getOutputStream().close();
    try (InputStream from = process.getInputStream()) {
      String text = new String(from.readAllBytes()).trim();
      return process.waitFor() + " " + text;
    }
  }

  public static void main(String[] arguments) throws Exception {
    Thread churn = new Thread(() -> {
      byte[][] kept = new byte[64][];
      for (int i = 0; !over; i++) kept[i % kept.length] = new byte[1 << 15];
    });
    churn.setDaemon(true);
    churn.start();
    StringBuilder answers = new StringBuilder("done");
    String[] mechanisms = {"POSIX_SPAWN", "FORK", "VFORK"};
    System.setProperty("jdk.lang.Process.launchMechanism", mechanisms[(int) (ProcessHandle.current().pid() % 3)]);
    for (int i = 0; i < 9; i++) answers.append(' ').append(run("/bin/echo", Integer.toString(i)));
    Runtime.getRuntime().addShutdownHook(new Thread(() -> {
      System.out.println(answers);
      System.out.flush();
    }));
    run("/bin/kill", "-TERM", Long.toString(ProcessHandle.current().pid()));
    TimeUnit.MINUTES.sleep(1);
  }
}
