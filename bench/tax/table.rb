# A table of rows that are replaced when they are old. usage: table.rb COUNT ROUNDS
count, rounds = ARGV.map { |word| Integer(word) }
row = ->(i) { { id: i, name: "row #{i}", tags: [i, i + 1, i + 2], text: "row #{i} " * 20 } }

def own_bytes
  _, resident, shared = File.read('/proc/self/statm').split.map(&:to_i)
  (resident - shared) * 4096
end

table = Array.new(count) { |i| row.call(i) }
GC.start
puts own_bytes
sum = 0
(count * rounds).times do |i|
  place = i * 7919 % count
  sum += table[place][:id]
  table[place] = row.call(i)
end
puts "done #{sum}"
