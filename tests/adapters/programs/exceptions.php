<?php
// Exceptions under way: thrown in functions, callbacks, generators, constructors and destructors, passed on by finally, and
// caught where the program says.
class Loud
{
    public static int $destroyed = 0;
    public $self;
    public $weight;

    public function __construct(public ?string $says = null)
    {
        $this->self = $this;
        $this->weight = str_repeat('w', 300);
    }

    public function __destruct()
    {
        ++self::$destroyed;
        try {
            throw new LogicException('inside');
        } catch (LogicException $e) {
            assert($e->getMessage() === 'inside');
        }
    }
}

class Throwing
{
    public function __construct(private int $n)
    {
    }

    public function __destruct()
    {
        throw new RangeException("destructor {$this->n}");
    }
}

function deep(int $depth, int $n): int
{
    $local = new Loud();
    if ($depth === 0) {
        throw new RuntimeException("deep $n");
    }
    try {
        return deep($depth - 1, $n) + 1;
    } finally {
        $local->self = [$local, str_repeat('f', 200)];
    }
}

function numbers(int $n): Generator
{
    try {
        for ($i = 0; $i < 10; ++$i) {
            yield new Loud("yield $i");
            if ($i === $n % 10) {
                throw new OutOfBoundsException("generator $n");
            }
        }
    } finally {
        $rest = new Loud('rest');
    }
}

$seen = [];
$note = static function (string $what) use (&$seen): void {
    $seen[$what] = ($seen[$what] ?? 0) + 1;
};
for ($n = 0; $n < 600; ++$n) {
    try {
        deep(5, $n);
    } catch (RuntimeException $e) {
        $note($e->getMessage() === "deep $n" ? 'deep' : 'wrong');
    }
    try {
        foreach (numbers($n) as $loud) {
            $note('yielded');
        }
    } catch (OutOfBoundsException $e) {
        $note('generator');
    }
    try {
        array_map(static function ($i) use ($n) {
            $inner = new Loud("map $i");
            return $i === 7 ? throw new DomainException("map $n") : $inner;
        }, range(0, 9));
    } catch (DomainException $e) {
        $note('map');
    }
    try {
        $order = range(0, 20);
        usort($order, static fn ($a, $b) => $a === 13 ? intdiv($a, 0) : $b <=> $a);
    } catch (DivisionByZeroError $e) {
        $note('sort');
    }
    try {
        $throwing = new Throwing($n);
        $throwing = null;
        $note('unreached');
    } catch (RangeException $e) {
        $note($e->getMessage() === "destructor $n" ? 'destructor' : 'wrong');
    }
    try {
        try {
            throw new RuntimeException('first');
        } finally {
            throw new LogicException('second');
        }
    } catch (LogicException $e) {
        $note($e->getPrevious()?->getMessage() === 'first' ? 'chained' : 'wrong');
    }
    try {
        str_repeat(...)('x', -1);
    } catch (ValueError $e) {
        $note('value');
    }
    try {
        nothing_of_the_kind($n);
    } catch (Error $e) {
        $note('error');
    }
}
ksort($seen);
echo 'done ', json_encode($seen), "\n";
