# Waves of objects that live long enough to become old before they are dropped; the collector as it comes,
# or disabled. usage: old_objects.rb waves|disabled COUNT [REPEATS]
# From 3.2 on a text of up to 640 bytes lies in the collector's own pages: REPEATS, of some 8 bytes each, make it longer.
count = Integer(ARGV.fetch(1))
repeats = Integer(ARGV.fetch(2, 30))
if ARGV.fetch(0) == "disabled"
  GC.disable
  count.times { |i| { i => "row %d " % i * repeats } }
  raise "the collector was enabled" unless GC.enable
else
  8.times do |wave|
    rows = Array.new(count) { |i| { i => "row %d %d " % [wave, i] * 8 } }
    4.times { Array.new(count / 4) { |i| rows[i].to_a } }
    rows.clear
  end
end
puts "done"
