# Strings, hashes, threads, fork, garbage.
ruby --disable-gems -e '
require "digest"; require "json"; require "set"
words = Dir["/usr/include/*.h"].sort.flat_map { |f| File.binread(f).scan(/[A-Za-z_]\w+/n) }
puts words.tally.sort_by { |w, n| [-n, w] }.first(30).map { |w, n| "#{w} #{n}" }
big = (1..200_000).map(&:to_s).join(",")
puts Digest::MD5.hexdigest(big), Digest::MD5.hexdigest(big.gsub(/(\d)(\d)/, "\\2\\1"))
data = (0...20_000).to_h { |i| ["key#{i}", { "n" => i, "s" => "x" * (i % 40) }] }
puts JSON.parse(JSON.generate(data)) == data
puts (1..8).map { |t| Thread.new { (1..20_000).map { |i| "#{t}:#{i}" }.to_set.size } }.map(&:value).sum
10.times { Array.new(20_000) { |i| "garbage %d" % i } }
GC.start
pid = fork { exit!((1..10_000).map(&:to_s).size == 10_000 ? 4 : 5) }
Process.wait(pid)
puts $?.exitstatus
puts IO.popen(["sh", "-c", "echo from a child"], &:read)
begin; Integer("x"); rescue ArgumentError => e; puts e.message; end
exit 6
' && status=0 || status=$?
echo "status $status"
