<?php
// A table of objects that are replaced when they are old, each of which leaves a cycle. usage: table.php COUNT ROUNDS
class Row
{
    public Row $me;
    public string $text;

    public function __construct(public int $id)
    {
        $this->me = $this;
        $this->text = str_repeat("row $id ", 20);
    }
}

function own_bytes(): int
{
    [, $resident, $shared] = explode(' ', file_get_contents('/proc/self/statm'));
    return ($resident - $shared) * 4096;
}

[, $count, $rounds] = array_map('intval', $argv);
$table = [];
for ($i = 0; $i < $count; ++$i) {
    $table[$i] = new Row($i);
}
gc_collect_cycles();
echo own_bytes(), "\n";
$sum = 0;
for ($i = 0; $i < $count * $rounds; ++$i) {
    $place = $i * 7919 % $count;
    $sum += $table[$place]->id;
    $table[$place] = new Row($i);
}
echo "done $sum\n";
