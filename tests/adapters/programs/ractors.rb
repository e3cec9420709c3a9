# Ractors and threads at work at once, on threads that Ruby shares out among them (RUBY_MN_THREADS, from 3.3
# on), with finalisers that switch threads. Both end before the program does.
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
pass = proc { Thread.pass }
ractors = [4000, 6000].map { |count| Ractor.new(count) { |n| churn(n) } }
threads = [3000, 5000].map { |count| Thread.new { sleep(0.001); churn(count) } }
100.times { ObjectSpace.define_finalizer(Object.new, pass) }
sizes = [churn(5000)] + threads.map(&:value) + ractors.map { |ractor| value_of(ractor) }
GC.start
status = Process.wait2(fork { churn(2000) })[1].exitstatus
puts "done #{sizes.join(' ')} #{status}"
