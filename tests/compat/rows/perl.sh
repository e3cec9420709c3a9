# Hashes, closures, regular expressions, sorting, fork and a large string.
perl -e '
use strict; use warnings;
use Digest::MD5 qw(md5_hex); use List::Util qw(sum); use POSIX ();
my %count;
for my $file (sort glob "/usr/include/*.h") {
  open my $in, "<", $file or next;
  while (<$in>) { $count{$1}++ while /([A-Za-z_]\w+)/g }
}
print "$_ $count{$_}\n" for (sort { $count{$b} <=> $count{$a} || $a cmp $b } keys %count)[0 .. 30];
my @subs = map { my $n = $_; sub { $n * $_[0] } } 1 .. 20000;
print sum(map { $_->(3) } @subs), "\n";
my $big = join ",", 1 .. 300000;
print md5_hex($big), " ", length $big, "\n";
(my $changed = $big) =~ s/(\d)(\d)/$2$1/g;
print md5_hex($changed), "\n";
for my $n (1 .. 5) {
  my $pid = fork;
  if (!$pid) { my %h = map { $_ => "x" x 100 } 1 .. 5000; POSIX::_exit(keys(%h) == 5000 ? $n : 99) }
  waitpid $pid, 0;
  print "child ", $? >> 8, "\n";
}
print scalar reverse("done"), "\n";
'
