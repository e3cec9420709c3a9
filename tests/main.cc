/* Entry point of the tests that use Catch2. Where the order is random the seed is printed, so
 * that a failure can be repeated: `unit --order rand --rng-seed N`. */
#define CATCH_CONFIG_RUNNER
#include <iostream>

#include <catch2/catch.hpp>

int main(int argc, char** argv) {
  Catch::Session session;
  const int problem = session.applyCommandLine(argc, argv);
  if (problem != 0) return problem;
  if (session.config().runOrder() == Catch::RunTests::InRandomOrder) {
    std::cout << "Random order, --rng-seed " << session.config().rngSeed() << '\n';
  }
  return session.run();
}
