/* The same work again and again for WORK_S seconds, each time with the same result: garbage of every size and age, exceptions,
 * streams on several threads, compressed text, native buffers, serialised objects, proxies and weak references. */
import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.ObjectInputStream;
import java.io.ObjectOutputStream;
import java.io.Serializable;
import java.lang.ref.SoftReference;
import java.lang.reflect.Proxy;
import java.nio.ByteBuffer;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.WeakHashMap;
import java.util.function.IntUnaryOperator;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import java.util.zip.CRC32;
import java.util.zip.DeflaterOutputStream;
import java.util.zip.InflaterInputStream;

public class JavaWorks {
  record Row(int key, String name, List<Integer> parts) implements Serializable {
    static Row of(int i) {
      return new Row(i * 7919 % 4001, "row " + i, new ArrayList<>(List.of(i, i + 1, i + 2)));
    }
  }

  static final Map<Object, byte[]> weak = new WeakHashMap<>();
  static final List<SoftReference<byte[]>> soft = new ArrayList<>();

  static int deep(int depth) {
    byte[] garbage = new byte[100 + depth];
    if (depth == 0) throw new IllegalStateException("deep " + garbage.length);
    try {
      return deep(depth - 1);
    } finally {
      garbage[0] = (byte) depth;
    }
  }

  static byte[] copied(List<Row> rows) throws Exception {
    var bytes = new ByteArrayOutputStream();
    try (var out = new ObjectOutputStream(new DeflaterOutputStream(bytes))) {
      out.writeObject(new ArrayList<>(rows));
    }
    try (var in = new ObjectInputStream(new InflaterInputStream(new ByteArrayInputStream(bytes.toByteArray())))) {
      return in.readObject().toString().getBytes();
    }
  }

  static long once() throws Exception {
    CRC32 sum = new CRC32();
    Map<Integer, Row> tree = new TreeMap<>();
    for (int i = 0; i < 5000; i++) {
      tree.put(i % 3000, Row.of(i));
      if (i % 100 == 0) {
        weak.put(new Object(), new byte[10_000]);
        soft.add(new SoftReference<>(new byte[10_000]));
        sum.update(ByteBuffer.allocateDirect(64 << 10).putInt(0, i));
      }
    }
    if (soft.size() > 500) soft.clear();
    sum.update(copied(new ArrayList<>(tree.values()).subList(0, 500)));
    String text = IntStream.range(0, 20_000).parallel().mapToObj(Row::of)
        .collect(Collectors.groupingByConcurrent(Row::key, Collectors.counting()))
        .entrySet().stream().sorted(Map.Entry.comparingByKey()).map(Object::toString).collect(Collectors.joining(","));
    sum.update(text.getBytes());
    try {
      deep(500);
    } catch (IllegalStateException thrown) {
      sum.update((thrown.getMessage() + thrown.getStackTrace().length).getBytes());
    }
    var proxy = (IntUnaryOperator) Proxy.newProxyInstance(JavaWorks.class.getClassLoader(),
        new Class<?>[] {IntUnaryOperator.class}, (self, method, given) -> (int) given[0] + new byte[1000].length);
    for (int i = 0; i < 2000; i++) sum.update(proxy.applyAsInt(i));
    int[][] large = new int[4][];
    for (int i = 0; i < 40; i++) large[i % 4] = new int[300_000 + i];
    sum.update(large[3].length);
    Thread thread = new Thread(() -> sum.update(tree.toString().getBytes()));
    thread.start();
    thread.join();
    return sum.getValue();
  }

  public static void main(String[] arguments) throws Exception {
    String seconds = System.getenv("WORK_S");
    long end = System.nanoTime() + (long) (Double.parseDouble(seconds == null ? "0.3" : seconds) * 1e9);
    long expected = once(), found;
    do {
      found = once();
    } while (found == expected && System.nanoTime() < end);
    System.out.println((found == expected ? "done " : found + " instead of ") + expected);
  }
}
