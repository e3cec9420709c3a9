<?php
// A queue worker whose jobs each leave a cycle behind, with the message in it. PHP's collector is on, and comes after
// 10,000 objects that may be garbage, however much hangs on each.
//
// Usage: queue_worker.php JOBS [BYTES [disabled]]
class Job
{
    public array $handlers = [];

    public function __construct(public string $message)
    {
        $this->handlers[] = fn (): int => strlen($this->message);
    }

    public function run(): int
    {
        return $this->handlers[0]();
    }
}

[, $jobs, $bytes, $collector] = $argv + [1 => 0, 2 => 50000, 3 => 'enabled'];
if ($collector === 'disabled') {
    gc_disable();
}
$sum = 0;
for ($i = 0; $i < $jobs; ++$i) {
    $job = new Job(str_repeat(chr(97 + $i % 26), $bytes));
    $sum += $job->run();
}
echo $sum === $jobs * $bytes ? "done\n" : "wrong\n";
