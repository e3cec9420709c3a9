/* No hook, no waiting for anybody. */
public class JavaHalts {
  public static void main(String[] arguments) {
    byte[][] kept = new byte[64][];
    for (int i = 0; i < 4000; i++) kept[i % kept.length] = new byte[1 << 15];
    System.out.println("done");
    System.out.flush();
    Runtime.getRuntime().halt(5);
  }
}
