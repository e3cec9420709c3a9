# Builds a large hash, drops it, and builds arrays of another shape, again and again.
use strict;
use warnings;
my $sum = 0;
for my $phase (1 .. 3) {
    my %table = map { ("key $phase $_" => "v" x (40 + $_ % 200)) } 1 .. 300_000;
    $sum += scalar keys %table;
    undef %table;
    my @rows = map { [$_, "w" x (300 + $_ % 500)] } 1 .. 150_000;
    $sum += scalar @rows;
}
print "done $sum\n";
