/* The external term format, against what a node writes: term_to_binary() of OTP 25, minor version 2. */
#include "runtimes/erlang_term.h"

#include <string>
#include <vector>

#include <catch2/catch.hpp>

using memlimit::runtimes::ErlangTerm;

TEST_CASE("erlang term: each kind as the node writes it", "[adapters]") {
  // {atom, 1, [true, {}], #{id => 255}}
  ErlangTerm term;
  term.tuple(4).atom("atom").integer(1);
  term.list(2).atom("true").tuple(0).nil();
  term.map(1).atom("id").integer(255);
  const std::vector<unsigned char> expected = {
      131, 104, 4,   119, 4,   97, 116, 111, 109, 97, 1, 108, 0,   0, 0,   2,   119, 4,
      116, 114, 117, 101, 104, 0,  106, 116, 0,   0,  0, 1,   119, 2, 105, 100, 97,  255};
  CHECK(std::vector<unsigned char>(term.data(), term.data() + term.size()) == expected);
}

TEST_CASE("erlang term: one that does not fit is none", "[adapters]") {
  ErlangTerm term;
  while (term.size() > 0) {
    const size_t before = term.size();
    term.atom("an atom");
    if (term.size() > 0) REQUIRE(term.size() > before);
    REQUIRE(before < 4096);
  }
  CHECK(term.nil().size() == 0);
}
