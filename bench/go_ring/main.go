// The reference: Go's own memory limit on a ring of 100,000 live blocks of 256-2303 bytes, 4 million
// allocations. Run with GOGC=off GOMEMLIMIT=300MiB; ring.cc is the same program for memlimit.
package main

import (
	"fmt"
	"runtime"
	"time"
)

const (
	live        = 100_000
	allocations = 4_000_000
)

var ring [live][]byte

func main() {
	state := uint64(0x9E3779B97F4A7C15) | 1
	begin := time.Now()
	for i := 0; i < allocations; i++ {
		state ^= state >> 12
		state ^= state << 25
		state ^= state >> 27
		size := 256 + (state*0x2545F4914F6CDD1D>>32)*2048>>32
		ring[i%live] = make([]byte, size)
	}
	seconds := time.Since(begin).Seconds()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	fmt.Printf("seconds=%.6f\ncollections=%d\ncollector_cpu_share=%.6f\nheap_sys=%d\n",
		seconds, stats.NumGC, stats.GCCPUFraction, stats.Sys)
}
