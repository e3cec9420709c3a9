# Forks while other threads allocate; children end in the ways that there are.
def churn(count)
  rows = []
  count.times do |i|
    rows << "row %d" % i * 20
    rows = [] if rows.size > 1000
  end
end
going = true
thread = Thread.new { churn(500) while going }
children = (0...3).map do |number|
  churn(1000)
  fork do
    churn(5000)
    exit!(number) if number % 3 == 0
    Process.wait(fork { churn(1000) }) if number % 3 == 1
    exit(number)
  end
end
statuses = children.map { |pid| Process.wait2(pid)[1].exitstatus }
going = false
thread.join
puts "done #{statuses.join(' ')}"
