<?php
// The end of a request: shutdown functions, destructors, output buffers and a fatal error in the middle of it all.
// Status 255 is what PHP makes of that.
class Node
{
    public $me;
    public $text;

    public function __construct(private bool $counts = false)
    {
        $this->me = $this;
        $this->text = str_repeat('s', 600);
    }

    public function __destruct()
    {
        global $ended;
        $ended += $this->counts ? 1 : 0;
        $more = [];
        for ($i = 0; $i < 3; ++$i) {
            $more[] = ['more' => &$more];
        }
    }
}

$ended = 0;
ob_start(static function (string $text): string {
    for ($i = 0; $i < 100; ++$i) {
        new Node();
    }
    return $text;
});
register_shutdown_function(static function (): void {
    for ($i = 0; $i < 2000; ++$i) {
        new Node();
    }
    echo "done first\n";
    register_shutdown_function(static function (): void {
        for ($i = 0; $i < 2000; ++$i) {
            new Node();
        }
        echo "second\n";
    });
});
for ($i = 0; $i < 3000; ++$i) {
    new Node();
}
$held = [];
for ($i = 0; $i < 500; ++$i) {
    $held[] = new Node(true);
}
echo "thrown away by the fatal error\n";
ini_set('display_errors', '0');
ini_set('log_errors', '0');

function end_badly(int $depth): void
{
    $local = new Node();
    if ($depth === 0) {
        ini_set('memory_limit', memory_get_usage() + (8 << 20));
        str_repeat('x', 1 << 30);
    }
    end_badly($depth - 1);
}

end_badly(20);
