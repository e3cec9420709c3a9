# Ractors and threads at work at once, on threads that Ruby shares out among them (RUBY_MN_THREADS, from 3.3
# on). Both end before the program does. Finalisers come after the Ractors, and so does the fork: while there are any,
# Ruby 3.1 runs finalisers in whichever Ractor it likes and crashes (38 of 40 runs without memlimit, where Ractors collect
# often and the main one makes objects with finalisers), and a fork may copy a lock that a Ractor holds which is about to end.
if ENV["RUBY_MN_THREADS"].nil?
  exec({ "RUBY_MN_THREADS" => "1" }, RbConfig.ruby, "-W:no-experimental", __FILE__)
end
def churn(count)
  rows = []
  count.times do |i|
    rows << ["row %d" % i * 5, { i => i.to_s }]
    rows = [] if rows.size > 1000
  end
  rows.size
end
def value_of(ractor) = ractor.respond_to?(:value) ? ractor.value : ractor.take
ractors = [4000, 6000].map { |count| Ractor.new(count) { |n| churn(n) } }
threads = [3000, 5000].map { |count| Thread.new { sleep(0.001); churn(count) } }
sizes = [churn(5000)] + threads.map(&:value) + ractors.map { |ractor| value_of(ractor) }
Thread.pass until Ractor.count == 1
pass = proc { Thread.pass }
100.times { ObjectSpace.define_finalizer(Object.new, pass) }
GC.start
status = Process.wait2(fork { churn(2000) })[1].exitstatus
puts "done #{sizes.join(' ')} #{status}"
