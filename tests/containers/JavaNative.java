/* Native memory behind small Java objects that nobody closes: it is freed when the collector finds them, and has no reason to
 * look. usage: JavaNative.java buffers|deflaters COUNT [peak]: says how many MiB the process ever had, instead of "done" */
import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.zip.Deflater;

public class JavaNative {
  static final int BUFFER = 256 << 10;

  static long peakMib() throws Exception {
    for (String line : Files.readAllLines(Path.of("/proc/self/status"))) {
      if (line.startsWith("VmHWM")) return Long.parseLong(line.replaceAll("\\D", "")) / 1024;
    }
    throw new IllegalStateException("no VmHWM");
  }

  public static void main(String[] arguments) throws Exception {
    int count = Integer.parseInt(arguments[1]);
    byte[] output = new byte[256];
    for (int i = 0; i < count; i++) {
      if (arguments[0].equals("buffers")) {
        ByteBuffer buffer = ByteBuffer.allocateDirect(BUFFER);
        for (int at = 0; at < BUFFER; at += 4096) buffer.put(at, (byte) 1);
      } else {
        Deflater deflater = new Deflater();
        deflater.setInput(output);
        deflater.finish();
        deflater.deflate(output);
      }
      if (i % 16 == 0) Thread.sleep(1);
    }
    System.out.println(arguments.length > 2 ? peakMib() : "done");
  }
}
