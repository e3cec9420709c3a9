# Debian's php loads its extensions with RTLD_DEEPBIND: their free() must be the library's too.
cat >main.php <<'CODE'
<?php
$extensions = get_loaded_extensions();
sort($extensions);
echo implode(",", $extensions), "\n";
$data = [];
for ($i = 0; $i < 50000; $i++) { $data["key$i"] = ["n" => $i, "s" => str_repeat(chr(65 + $i % 26), $i % 50)]; }
$text = json_encode($data);
echo md5($text), " ", strlen($text), "\n";
$back = json_decode($text, true);
echo count($back), " ", $back["key777"]["s"], "\n";
echo preg_match_all('/"n":(\d*7)\b/', $text), "\n";
usort($back, fn($a, $b) => strlen($b["s"]) <=> strlen($a["s"]) ?: $a["n"] <=> $b["n"]);
echo $back[0]["n"], "\n";
class Node { public $other; public $load; function __construct() { $this->load = str_repeat("x", 1000); } }
for ($i = 0; $i < 20000; $i++) { $a = new Node; $b = new Node; $a->other = $b; $b->other = $a; }
unset($a, $b);
echo gc_collect_cycles() >= 0 ? "collected" : "none", "\n";
function numbers() { for ($i = 0; $i < 1000; $i++) yield $i; }
echo array_sum(iterator_to_array(numbers())), "\n";
try { intdiv(1, 0); } catch (DivisionByZeroError $e) { echo $e->getMessage(), "\n"; }
if (class_exists("PDO")) { echo "PDO ", implode(",", array_diff(PDO::getAvailableDrivers(), [])), "\n"; }
echo hash("sha256", str_repeat("abc", 1000000)), "\n";
exit(3);
CODE
php main.php && status=0 || status=$?
echo "status $status"
php -r 'echo PHP_OS_FAMILY, "\n";'
php -l main.php
