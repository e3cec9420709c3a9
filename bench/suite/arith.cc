/* Allocation-bound arithmetic: the relation search of continued-fraction factoring. Walks the
 * expansion of sqrt(n) for a 128-bit n and divides each residue by the primes below 256; every
 * intermediate number is a heap block of its own. An iteration is one step of the expansion.
 *
 * The invariant A^2 = (-1)^i Q (mod n) is checked now and then, so wrong arithmetic cannot pass as
 * fast.
 *
 * Usage: arith [iterations]
 */
#include "bignum.h"

namespace {

using bench::Natural;

/** The largest number whose square is at most n (Newton's method from above). */
Natural square_root(const Natural& n) {
  Natural guess = n + Natural(1);
  Natural better = n;
  while (better < guess) {
    guess = better;
    uint32_t rest = 0;
    better = (guess + Natural::divide(n, guess).first).divide_small(2, &rest);
  }
  return guess;
}

/** What is left of q after dividing out the small primes. */
Natural without_small_factors(Natural q) {
  static constexpr uint8_t kPrimes[] = {
      2,   3,   5,   7,   11,  13,  17,  19,  23,  29,  31,  37,  41,  43,  47,  53,  59,  61,
      67,  71,  73,  79,  83,  89,  97,  101, 103, 107, 109, 113, 127, 131, 137, 139, 149, 151,
      157, 163, 167, 173, 179, 181, 191, 193, 197, 199, 211, 223, 227, 229, 233, 239, 241, 251};
  for (const uint8_t prime : kPrimes) {
    uint32_t rest = 0;
    Natural quotient = q.divide_small(prime, &rest);
    while (rest == 0) {
      q = quotient;
      quotient = q.divide_small(prime, &rest);
    }
  }
  return q;
}

}  // namespace

int main(int argc, char** argv) {
  const uint64_t iterations = bench::arg_number(argc, argv, 1, 1'000'000);
  const Natural n = Natural(0xD1B54A32D192ED03) * Natural(0x9E3779B97F4A7C15);
  const Natural root = square_root(n);
  Natural p(0);
  Natural q(1);
  Natural digit = root;
  Natural convergent = root;
  Natural previous(1);
  uint64_t sum = 0;
  for (uint64_t i = 0; i < iterations; ++i) {
    p = digit * q - p;
    q = Natural::divide(n - p * p, q).first;
    if (i % 1024 == 0) {
      const Natural square = Natural::divide(convergent * convergent, n).second;
      const Natural expected = i % 2 == 0 ? n - q : q;
      if (square != expected) {
        std::fprintf(stderr, "arith: wrong after %" PRIu64 " steps\n", i);
        return 1;
      }
    }
    sum = sum * 31 + without_small_factors(q).low();
    digit = Natural::divide(root + p, q).first;
    Natural next = Natural::divide(digit * convergent + previous, n).second;
    previous = std::move(convergent);
    convergent = std::move(next);
  }
  bench::report(iterations, sum);
}
