<?php
// Generators, fibers, iterators, references, weak references and sorts, with garbage in cycles at every step.
class Garbage
{
    public $ring;

    public function __construct(public mixed $load = null)
    {
        $this->ring = [$this, str_repeat('g', 400)];
    }
}

function tree(int $depth): Generator
{
    new Garbage();
    if ($depth === 0) {
        return yield $depth;
    }
    $sum = yield from tree($depth - 1);
    yield $depth;
    return $sum + (yield from tree($depth - 1)) + 1;
}

$total = 0;
for ($n = 0; $n < 60; ++$n) {
    $generator = tree(6);
    foreach ($generator as $value) {
        $total += $value;
        new Garbage($generator);
    }
    $left = tree(6);
    $left->current();
    unset($left);
}

// Fibers that hand work to each other, some of them never finished.
$log = 0;
$worker = static function (int $id) use (&$log): int {
    $sum = 0;
    for ($i = 0; $i < 20; ++$i) {
        $garbage = new Garbage(Fiber::getCurrent());
        $sum += Fiber::suspend($id * $i);
        $log = ($log * 31 + $sum) % 1000003;
    }
    return $sum;
};
for ($round = 0; $round < 40; ++$round) {
    $fibers = [];
    for ($id = 0; $id < 8; ++$id) {
        $fibers[$id] = new Fiber($worker);
        $fibers[$id]->start($id);
    }
    for ($step = 0; $step < 20; ++$step) {
        foreach ($fibers as $id => $fiber) {
            if ($id === 7 && $step > 10) {
                continue;
            }
            $fiber->resume($step + $id);
        }
    }
    for ($id = 0; $id < 7; ++$id) {
        $total += $fibers[$id]->getReturn();
    }
}
unset($fibers, $fiber);

// What is held is found; what is not held may or may not be gone.
$map = new WeakMap();
$held = [];
for ($i = 0; $i < 4000; ++$i) {
    $key = new Garbage($i);
    $map[$key] = [$i, new Garbage($map)];
    if ($i % 4 === 0) {
        $held[$i] = [$key, WeakReference::create($key)];
    }
}
unset($key);
foreach ($held as $i => [$key, $reference]) {
    assert($map[$key][0] === $i && $reference->get() === $key);
    $total += $map[$key][0];
}

// Callbacks that allocate in the middle of what the engine does.
$rows = [];
for ($i = 0; $i < 3000; ++$i) {
    $rows[] = ['key' => ($i * 7919) % 3001, 'garbage' => new Garbage($i)];
}
usort($rows, static function (array $a, array $b): int {
    new Garbage($a);
    return $a['key'] <=> $b['key'];
});
$rows = array_filter($rows, static fn (array $row) => new Garbage() && $row['key'] % 3 === 0);
$text = preg_replace_callback('/\d/', static fn (array $m) => new Garbage($m) ? $m[0] + 1 : '', str_repeat('12a', 500));
$iterator = new CallbackFilterIterator(new ArrayIterator($rows), static fn ($row) => (bool) new Garbage($row));
foreach ($iterator as $row) {
    $total += $row['key'];
}
$object = unserialize(serialize(new ArrayObject(array_map(static fn ($row) => new Garbage($row['key']), $rows))));
$total += count($object);

// References into arrays that are garbage soon.
for ($i = 0; $i < 2000; ++$i) {
    $array = [1, 2, 3];
    $array['self'] = &$array;
    foreach ($array as &$element) {
        if (is_int($element)) {
            $total += $element;
        }
    }
    unset($array, $element);
}
echo "done $total $log ", crc32($text), "\n";
