/* Catch2 takes most of the time that a unit test needs to compile: read once for all of them. */
#include <catch2/catch.hpp>
