# Waves of objects that live long enough to become old before they are dropped; the collector as it comes,
# or disabled. usage: old_objects.rb waves|disabled COUNT
count = Integer(ARGV.fetch(1))
if ARGV.fetch(0) == "disabled"
  GC.disable
  count.times { |i| { i => "row %d " % i * 30 } }
  raise "the collector was enabled" unless GC.enable
else
  8.times do |wave|
    rows = Array.new(count) { |i| { i => "row %d %d " % [wave, i] * 8 } }
    4.times { Array.new(count / 4) { |i| rows[i].to_a } }
  end
end
puts "done"
