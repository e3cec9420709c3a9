# Threads, finalisers and exit handlers that allocate, with the collector disabled half of the time; a thread
# that sleeps, and one that is still at work when the program ends.
GC.disable
$finalised = 0
count = proc { $finalised += 1 }
def churn(count)
  rows = []
  count.times do |i|
    rows << ["row %d" % i * 5, { i => i.to_s }]
    rows = [] if rows.size > 2000
  end
  rows.size
end
sleeper = Thread.new { sleep }
workers = [9000, 12_000].map { |n| Thread.new { churn(n) } }
sizes = workers.map(&:value)
200.times { ObjectSpace.define_finalizer(Object.new, count) }
sizes << churn(9000)
raise "the collector was enabled" unless GC.enable
churn(9000)
raise "the collector was disabled" if GC.disable
GC.enable
at_exit { churn(3000) }
Thread.new { loop { churn(500) } }
sleeper.kill
reader, writer = IO.pipe
Thread.new { churn(3000); writer.close }
raise "something to read" unless reader.read == ""
puts "done #{sizes.join(' ')}"
exit 5
