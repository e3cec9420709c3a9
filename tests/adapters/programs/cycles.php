<?php
// Cycles with the collector disabled, and each destructor once; data that is alive keeps its value, and the collector
// stays as the program has it.
gc_disable();
$live = [];
for ($i = 0; $i < 20000; ++$i) {
    $live[] = ['number' => $i, 'text' => "text $i"];
}
$destroyed = 0;

class Node
{
    public $other;
    public $text;

    public function __construct(public int $number)
    {
        $this->text = str_repeat(chr(65 + $number % 26), 700);
    }

    public function __destruct()
    {
        global $destroyed;
        ++$destroyed;
        assert($this->text === str_repeat(chr(65 + $this->number % 26), 700));
    }
}

for ($i = 0; $i < 6000; ++$i) {
    $a = new Node($i);
    $b = new Node($i);
    $a->other = $b;
    $b->other = [$a, static fn () => $i, $b];
}
unset($a, $b);
gc_collect_cycles();
assert(!gc_enabled());
$sum = 0;
foreach ($live as $row) {
    assert($row['text'] === "text {$row['number']}");
    $sum += $row['number'];
}
echo "done $destroyed $sum\n";
