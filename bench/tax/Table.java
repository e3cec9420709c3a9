/* A table of rows that are replaced when they are old. usage: Table.java COUNT ROUNDS */
import java.nio.file.Files;
import java.nio.file.Path;

public class Table {
  record Row(long id, String name, int[] tags) {
    static Row of(int i) {
      return new Row(i, "row " + i, new int[] {i, i + 1, i + 2});
    }
  }

  static long ownBytes() throws Exception {
    String[] words = Files.readString(Path.of("/proc/self/statm")).split(" ");
    return (Long.parseLong(words[1]) - Long.parseLong(words[2])) * 4096;
  }

  public static void main(String[] arguments) throws Exception {
    int count = Integer.parseInt(arguments[0]);
    long rounds = Long.parseLong(arguments[1]);
    Row[] table = new Row[count];
    for (int i = 0; i < count; i++) table[i] = Row.of(i);
    System.gc();
    System.out.println(ownBytes());
    long sum = 0;
    for (long i = 0; i < count * rounds; i++) {
      int place = (int) (i * 7919 % count);
      sum += table[place].id();
      table[place] = Row.of((int) i);
    }
    System.out.println("done " + sum);
  }
}
