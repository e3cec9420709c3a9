<?php
// The same work again and again for WORK_S seconds, each time with the same result: objects in cycles, exceptions, closures,
// generators, fibers, serialised text, sorts, references, and finalisers that allocate.
class Node
{
    public static int $ended = 0;
    public ?Node $other = null;
    public array $load;

    public function __construct(int $i)
    {
        $this->load = [$i, str_repeat(chr(97 + $i % 26), 200 + $i % 300)];
    }

    public function __destruct()
    {
        self::$ended += count(array_map(static fn ($value) => [$value], $this->load)) - 1;
    }
}

function numbers(int $most): Generator
{
    for ($i = 0; $i < $most; ++$i) {
        try {
            yield $i => new Node($i);
        } finally {
            $garbage = [$i];
            $garbage[] = &$garbage;
        }
    }
}

function deep(int $depth): int
{
    $node = new Node($depth);
    $node->other = $node;
    if ($depth === 0) {
        throw new DomainException("deep " . $node->load[0]);
    }
    try {
        return deep($depth - 1);
    } finally {
        $node->load[] = $depth;
    }
}

function once(): string
{
    $hash = hash_init('crc32b');
    for ($i = 0; $i < 600; ++$i) {
        [$one, $two] = [new Node($i), new Node($i + 1)];
        [$one->other, $two->other] = [$two, $one];
        hash_update($hash, $one->other->load[1]);
    }
    foreach (numbers(300) as $i => $node) {
        hash_update($hash, "$i {$node->load[1]}");
        if ($i === 250) {
            break;
        }
    }
    try {
        deep(60);
    } catch (DomainException $thrown) {
        hash_update($hash, $thrown->getMessage() . count($thrown->getTrace()));
    }
    $fibers = array_map(static fn ($id) => new Fiber(static function () use ($id) {
        for ($sum = $id; $sum < 200;) {
            $sum += Fiber::suspend(new Node($sum))->load[0] + 1;
        }
        return $sum;
    }), range(0, 9));
    $held = array_map(static fn ($fiber) => $fiber->start(), $fibers);
    while (array_filter($fibers, static fn ($fiber) => !$fiber->isTerminated())) {
        foreach ($fibers as $id => $fiber) {
            if (!$fiber->isTerminated()) {
                $held[$id] = $fiber->resume($held[$id]);
            }
        }
    }
    hash_update($hash, implode(' ', array_map(static fn ($fiber) => $fiber->getReturn(), $fibers)));
    $rows = array_map(static fn ($i) => ['key' => $i * 7919 % 997, 'node' => new Node($i)], range(0, 500));
    usort($rows, static fn ($a, $b) => [$a['key'], new Node(1) && 0] <=> [$b['key'], 0]);
    $rows = unserialize(serialize(array_column($rows, 'key')));
    foreach ($rows as &$row) {
        $row = (string) $row;
    }
    hash_update($hash, json_encode(array_chunk($rows, 7)));
    return hash_final($hash);
}

$end = microtime(true) + (float) (getenv('WORK_S') ?: 0.3);
$expected = once();
do {
    $found = once();
} while ($found === $expected && microtime(true) < $end);
echo $found === $expected ? 'done ' : "$found instead of ", $expected, Node::$ended > 0 ? '' : ' no finalisers', "\n";
