/* Native memory behind small Java objects that nobody closes: it is freed when the collector finds them, and has no reason to
 * look. usage: JavaNative.java buffers|deflaters COUNT */
import java.nio.ByteBuffer;
import java.util.zip.Deflater;

public class JavaNative {
  static final int BUFFER = 256 << 10;

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
    System.out.println("done");
  }
}
