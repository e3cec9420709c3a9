<?php
// A destructor that ends the request: by exit, or by a fatal error in the middle of a collection.
class Node
{
    public static int $made = 0;
    public static int $last = 0;
    public $me;
    public $text;

    public function __construct()
    {
        ++self::$made;
        $this->me = $this;
        $this->text = str_repeat('f', 900);
    }

    public function __destruct()
    {
        if (self::$made < 3000 || self::$last > 0) {
            return;
        }
        self::$last = self::$made;
        if (getmypid() % 2 === 0) {
            exit(255);
        }
        ini_set('memory_limit', memory_get_usage() + (8 << 20));
        str_repeat('x', 1 << 30);
    }
}

ini_set('display_errors', '0');
ini_set('log_errors', '0');
register_shutdown_function(static function (): void {
    for ($i = 0; $i < 1000; ++$i) {
        new Node();
    }
    echo 'done ', Node::$last >= 3000 ? 'by a destructor' : 'wrong', "\n";
});
gc_disable();
for ($i = 0; $i < 30000; ++$i) {
    new Node();
}
gc_collect_cycles();
