<?php
// Children that end in the ways there are, and signals that arrive all the time, handled between two instructions.
if (!function_exists('pcntl_fork')) {
    exit("done without pcntl\n");
}

class Node
{
    public $me;
    public $text;

    public function __construct()
    {
        $this->me = $this;
        $this->text = str_repeat('n', 500);
    }
}

function churn(int $count): void
{
    for ($i = 0; $i < $count; ++$i) {
        new Node();
    }
}

pcntl_async_signals(true);
$handled = 0;
pcntl_signal(SIGUSR1, static function () use (&$handled): void {
    ++$handled;
    churn(3);
});
pcntl_signal(SIGUSR2, static function (): void {
    throw new RuntimeException('signal');
});

$children = [];
for ($number = 0; $number < 6; ++$number) {
    churn(500);
    $pid = pcntl_fork();
    if ($pid === 0) {
        churn(1500);
        if ($number % 3 === 0) {
            exit($number);
        }
        if ($number % 3 === 1) {
            $grandchild = pcntl_fork();
            if ($grandchild === 0) {
                churn(500);
                posix_kill(posix_getpid(), SIGKILL);
            }
            pcntl_waitpid($grandchild, $status);
            exit(pcntl_wifsignaled($status) ? $number : 99);
        }
        pcntl_exec('/bin/sh', ['-c', "exit $number"]);
    }
    $children[] = $pid;
}

$caught = 0;
for ($i = 0; $i < 300; ++$i) {
    posix_kill(posix_getpid(), SIGUSR1);
    churn(5);
    try {
        posix_kill(posix_getpid(), SIGUSR2);
        churn(1);
    } catch (RuntimeException $e) {
        ++$caught;
    }
}
$statuses = [];
foreach ($children as $pid) {
    while (pcntl_waitpid($pid, $status) !== $pid) {
    }
    $statuses[] = pcntl_wexitstatus($status);
}
echo "done $handled $caught ", implode(' ', $statuses), "\n";
