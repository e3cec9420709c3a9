/* A table whose blocks are replaced one by one when they are old, as in a cache or a session store: a collector that has room
 * lets them lie. usage: JavaHeap.java LIVE_MIB TOTAL_MIB [peaks]: says also how many MiB the heap, and the process, ever had */
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Random;

public class JavaHeap {
  static final int BLOCK = 16 << 10;

  static long peakMib() throws Exception {
    for (String line : Files.readAllLines(Path.of("/proc/self/status"))) {
      if (line.startsWith("VmHWM")) return Long.parseLong(line.replaceAll("\\D", "")) / 1024;
    }
    throw new IllegalStateException("no VmHWM");
  }

  public static void main(String[] arguments) throws Exception {
    byte[][] table = new byte[Integer.parseInt(arguments[0]) * 64][];
    long blocks = Long.parseLong(arguments[1]) * 64;
    Random random = new Random(7);
    long heap = 0;
    for (int i = 0; i < table.length; i++) table[i] = new byte[BLOCK - 16];
    for (long done = 0; done < blocks; done++) {
      byte[] block = new byte[BLOCK - 16];
      block[BLOCK / 2] = 1;
      table[random.nextInt(table.length)] = block;
      if (done % 16 != 0) continue;
      heap = Math.max(heap, Runtime.getRuntime().totalMemory() >> 20);
      // Some other work: nobody only allocates.
      Thread.sleep(1);
    }
    System.out.println(arguments.length < 3 ? "done" : heap + " " + peakMib());
  }
}
