# A server that turns the collector off during requests and on between batches of them.
GC.disable
sum = 0
400.times do |request|
  rows = Array.new(4000) { |i| { id: i, name: "row #{request} #{i}" * 4 } }
  sum += rows.sum { |row| row[:id] }
end
puts "done #{sum}"
