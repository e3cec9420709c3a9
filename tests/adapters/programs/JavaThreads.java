/* Threads that allocate, share monitors and weak references, and leave native memory to be freed by Cleaners; it ends when
 * main does, with a daemon still at work. */
import java.lang.ref.Cleaner;
import java.lang.ref.WeakReference;
import java.nio.ByteBuffer;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.zip.Deflater;

public class JavaThreads {
  static final Cleaner CLEANER = Cleaner.create();
  static final AtomicInteger cleaned = new AtomicInteger();

  static int work(int seed, Map<Integer, byte[]> shared) {
    int sum = 0;
    for (int i = 0; i < 300; i++) {
      Object owner = new Object();
      CLEANER.register(owner, cleaned::incrementAndGet);
      ByteBuffer buffer = ByteBuffer.allocateDirect(16 << 10);
      buffer.putInt(0, i);
      Deflater deflater = new Deflater();
      deflater.setInput(new byte[1024]);
      deflater.finish();
      sum += deflater.deflate(new byte[512]) + buffer.getInt(0);
      WeakReference<byte[]> weak = new WeakReference<>(new byte[4096]);
      synchronized (shared) {
        shared.put((seed * 300 + i) % 512, new byte[8192]);
        if (weak.get() != null) shared.remove(-1);
      }
    }
    return sum;
  }

  public static void main(String[] arguments) throws Exception {
    Thread daemon = new Thread(() -> {
      for (byte[] garbage = null;;) {
        garbage = new byte[1 << 16];
        if (garbage.length == 0) return;
        Thread.onSpinWait();
      }
    });
    daemon.setDaemon(true);
    daemon.start();
    ExecutorService pool = Executors.newFixedThreadPool(4);
    Map<Integer, byte[]> shared = new HashMap<>();
    List<Future<Integer>> results = new ArrayList<>();
    for (int i = 0; i < 8; i++) {
      int seed = i;
      results.add(pool.submit(() -> work(seed, shared)));
    }
    long sum = 0;
    for (Future<Integer> result : results) sum += result.get();
    pool.shutdown();
    System.out.println("done " + sum + " " + shared.size());
  }
}
