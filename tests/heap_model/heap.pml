/* The heap's lock-free operations, explored exhaustively by spin: see check.py, and lib/heap/span.h for the invariants.
 *
 * One slice that is, in turn, a span of class 1 (two words of one block each), a span of class 2 (one word of two
 * blocks), or free. Every action on a shared word is one atomic step, as the processor's are; everything between may
 * be interleaved. Threads do as lib/heap does. With VANISH one of them stops for ever between two of its steps, whichever: it is
 * what the child of a fork does not have.
 *
 *   claim     span.cc claim(), from a lease or any other hint, which may be stale
 *   give      span.cc return_blocks()
 *   retire    span.cc take_whole(), and make() of the other class
 *   purge     purge.cc Purger::span()
 *   lease     thread_cache's leases, span.cc end_lease(): no free block may be without a hint for ever
 *
 * What is asserted: a block has one owner; a block's owner sees the class that the block was claimed in until it lets
 * go; nobody drops pages of a block that is owned by another; at the end nothing that is free lacks a hint.
 *
 * FAULT plants a mistake that the check must find: 1 a claim does not look at the class afterwards; 2 retire clears one
 * word only; 3 purge looks at the words without clearing them; 4 whoever ends a lease does not look for blocks again.
 */
#ifndef THREADS
#define THREADS 2
#endif
#ifndef TURNS
#define TURNS 2
#endif
#ifndef FAULT
#define FAULT 0
#endif

#define FREE_SLICE 0
#define FULL(class, word) ((class == 1) -> 1 : ((word == 0) -> 3 : 0))

/* Shared: the slice's class byte, its words, its hints. */
byte class = 1;
byte words[2] = 1;
bool partial[3] = false; /* by class; the lease of the start is nobody's */
bool leased = false;

/* Not the heap's: who owns which bytes. Block b of class 1 is byte b; of class 2 both blocks lie in byte 0 and 1. */
byte owners[2] = 0; /* owners of each page-like half of the slice */
byte done = 0;
bool vanishes[THREADS + 1] = false;

/* The half that a bit of a word of a class stands for. */
#define HALF(class, word, bit) ((class == 1) -> word : bit)

inline own(c, w, bits) {
  if
  :: bits & 1 -> owners[HALF(c, w, 0)]++; assert(owners[HALF(c, w, 0)] == 1)
  :: else
  fi;
  if
  :: bits & 2 -> owners[HALF(c, w, 1)]++; assert(owners[HALF(c, w, 1)] == 1)
  :: else
  fi
}

inline disown(c, w, bits) {
  if
  :: bits & 1 -> owners[HALF(c, w, 0)]--
  :: else
  fi;
  if
  :: bits & 2 -> owners[HALF(c, w, 1)]--
  :: else
  fi
}

/* fetch_or, then the hints, as set_bits() does: each line a step. */
inline put(c, w, bits) {
  d_step { assert((words[w] & bits) == 0); words[w] = words[w] | bits };
  if
  :: !leased -> partial[c] = true
  :: else
  fi
}

/* claim(): a lease or a stale hint says that the slice is of class c. */
inline claim(c, w, wanted) {
  d_step { got = words[w] & wanted; words[w] = words[w] & ~wanted };
  if
  :: got != 0 ->
#if FAULT == 1
     seen = c;
#else
     seen = class;
#endif
     if
     :: seen == c -> d_step { assert(class == c); own(c, w, got) }
     :: else -> put(seen, w, got); got = 0
     fi
  :: else
  fi
}

/* The program has the block: its class may not change meanwhile. Then it comes back. */
inline give(c, w) {
  if
  :: got != 0 ->
     assert(class == c);
     d_step { disown(c, w, got) };
     put(c, w, got);
     got = 0
  :: else
  fi
}

/* take_whole() of class c; on success the slice is made a span of class n. */
inline retire(c, n) {
  taken = 0;
  d_step {
    if
    :: words[0] == FULL(c, 0) -> words[0] = 0; taken = 1
    :: else
    fi
  };
#if FAULT == 2
  if
  :: taken == 1 -> taken = 2
  :: else
  fi;
#else
  if
  :: taken == 1 && c == 1 ->
     d_step {
       if
       :: words[1] == FULL(c, 1) -> words[1] = 0; taken = 2
       :: else
       fi
     }
  :: taken == 1 && c != 1 -> taken = 2
  :: else
  fi;
#endif
  if
  :: taken == 2 && class == c ->
     /* Nobody owns anything of it. */
     assert(owners[0] == 0 && owners[1] == 0);
     d_step { owners[0]++; owners[1]++ };
     class = FREE_SLICE;
     leased = true;
     class = n;
     d_step { owners[0]--; owners[1]-- };
     words[0] = FULL(n, 0);
     if
     :: n == 1 -> words[1] = FULL(n, 1)
     :: else
     fi;
     end_lease()
  :: taken > 0 && !(taken == 2 && class == c) ->
     seen = class;
     put(seen, 0, FULL(c, 0));
     if
     :: taken == 2 && c == 1 -> put(seen, 1, FULL(c, 1))
     :: else
     fi
  :: else
  fi
}

/* end_lease() and offer(). */
inline end_lease() {
  leased = false;
  seen = class;
#if FAULT != 4
  if
  :: words[0] != 0 || words[1] != 0 -> partial[seen] = true
  :: else
  fi
#endif
}

/* A lease by the hint of class c, a claim from it, and its end. */
inline lease_and_claim(c, w) {
  d_step { had_hint = partial[c]; partial[c] = false };
  if
  :: had_hint ->
     if
     :: class == c ->
        leased = true;
        claim(c, w, 1);
        end_lease();
        give(c, w)
     :: else
     fi
  :: else
  fi
}

/* Purger::span(): takes what is free, drops the halves that are wholly its own, puts back. */
inline purge() {
  seen = class;
  if
  :: seen != FREE_SLICE ->
#if FAULT == 3
     d_step { got = words[0] };
     d_step { got2 = words[1] };
#else
     d_step { got = words[0]; words[0] = 0 };
     d_step { if :: seen == 1 -> got2 = words[1]; words[1] = 0 :: else -> got2 = 0 fi };
#endif
     if
     :: got != 0 || got2 != 0 ->
        now = class;
        if
        :: now == seen ->
           d_step { own(now, 0, got) };
           d_step { own(now, 1, got2) };
           /* madvise: longer than anything else. */
           assert(class == now);
           d_step { disown(now, 0, got) };
           d_step { disown(now, 1, got2) }
        :: else
        fi;
#if FAULT != 3
        if
        :: got != 0 -> put(now, 0, got)
        :: else
        fi;
        if
        :: got2 != 0 -> put(now, 1, got2)
        :: else
        fi;
#endif
        got = 0;
        got2 = 0
     :: else
     fi
  :: else
  fi
}

proctype thread() {
  byte got = 0, got2 = 0, seen = 0, now = 0, taken = 0, turn = 0;
  bool had_hint = false;
  {
  do
  :: turn < TURNS ->
     turn++;
     if
     :: claim(1, 0, 1); give(1, 0)
     :: claim(1, 1, 1); give(1, 1)
     :: claim(2, 0, 3); give(2, 0)
     :: claim(2, 0, 1); give(2, 0)
     :: lease_and_claim(1, 0)
     :: lease_and_claim(2, 0)
     :: retire(1, 2)
     :: retire(2, 1)
     :: purge()
     fi
  :: else -> break
  od
  } unless { vanishes[_pid] };
  done++
}

init {
  byte i = 0;
  partial[1] = true;
  atomic {
    do
    :: i < THREADS -> run thread(); i++
    :: else -> break
    od
  };
#ifdef VANISH
  vanishes[THREADS] = true;
  done == THREADS;
  /* What it had is lost; what is free is nobody's all the same. */
  assert((words[0] & 1) == 0 || owners[HALF(class, 0, 0)] == 0);
  assert((words[0] & 2) == 0 || owners[HALF(class, 0, 1)] == 0);
  assert((words[1] & 1) == 0 || owners[1] == 0)
#else
  done == THREADS;
  /* At rest: every block is free, once, and a hint leads to it. */
  assert(owners[0] == 0 && owners[1] == 0);
  assert(words[0] == FULL(class, 0) && words[1] == ((class == 1) -> 1 : 0));
  assert(partial[class])
#endif
}
