/* Many ways to end at once: another thread calls System.exit() while two allocate and a shutdown hook does, too. */
public class JavaExits {
  static void allocate(int rounds) {
    byte[][] kept = new byte[64][];
    for (int i = 0; i < rounds; i++) kept[i % kept.length] = new byte[1 << 15];
  }

  public static void main(String[] arguments) throws Exception {
    Runtime.getRuntime().addShutdownHook(new Thread(() -> {
      allocate(500);
      System.out.println("done");
      System.out.flush();
    }));
    for (int i = 0; i < 2; i++) {
      Thread thread = new Thread(() -> allocate(Integer.MAX_VALUE));
      thread.setDaemon(i == 0);
      thread.start();
    }
    allocate(2000);
    new Thread(() -> System.exit(7)).start();
    Thread.sleep(60_000);
  }
}
