/* Ends by what nobody catches, right after it has begun; exceptions by the thousand until then. */
public class JavaThrows {
  static int depth(int left) {
    if (left == 0) throw new IllegalStateException("bottom");
    return depth(left - 1) + 1;
  }

  public static void main(String[] arguments) {
    int caught = 0;
    for (int i = 0; i < 2000; i++) {
      try {
        depth(50);
      } catch (IllegalStateException e) {
        caught += e.getStackTrace().length > 0 ? 1 : 0;
      }
    }
    System.out.println("done " + caught);
    throw new IllegalStateException("uncaught");
  }
}
