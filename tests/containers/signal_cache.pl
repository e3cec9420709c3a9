# A cache without a bound that is dropped when a signal says so.
use strict;
use warnings;
my %cache;
my $dropped = 0;
$SIG{USR2} = sub { %cache = (); ++$dropped };
$cache{$_} = "v" x 1000 for 1 .. 400_000;
print "done\n";
