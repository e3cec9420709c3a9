/* What the headers of the C++ library call, for a library that is linked with none: the one at hand is built for glibc, and
 * whichever the program brings is the program's.
 *
 * Answers for: a mistake of our own ends the process as it would with the C++ library, by abort(). Refuses to throw: there
 * are no exceptions here.
 * Threads: any.
 */
#include <cstdlib>
#include <new>

namespace std {

const nothrow_t nothrow{};

[[noreturn]] void __throw_out_of_range_fmt(const char*, ...) { abort(); }

}  // namespace std
