/* dlopen and dlmopen, to strip RTLD_DEEPBIND: a library bound that way prefers libc's malloc family to
 * ours and frees our blocks there (PHP loads its modules so).
 *
 * glibc takes the caller's return address to decide whose RUNPATH, $ORIGIN and namespace apply, so these
 * must jump to the real functions with the stack as it was, not call them: hence assembly. Both are told
 * apart from their arguments only by where the flags are (second or third). musl has neither the flag nor dlmopen, whose
 * namespaces bring LM_ID_BASE with them.
 */
#include "dlopen.h"

#include <dlfcn.h>

#include "system/attributes.h"

extern "C" {

/* Read by the assembly below. Filled by whoever comes first, the constructor or the first call. */
__attribute__((visibility("hidden"), used)) void* memlimit_real_dlopen = nullptr;
__attribute__((visibility("hidden"), used)) void* memlimit_real_dlmopen = nullptr;

/* Calls so far, begun or ended: whoever finds it changed looks for new libraries. */
__attribute__((visibility("hidden"), used)) std::atomic<uint32_t> memlimit_loader_calls{0};

__attribute__((visibility("hidden"), used)) std::atomic<void (*)(const void* caller)>
    memlimit_loader_listener{nullptr};

__attribute__((visibility("hidden"), used)) void memlimit_resolve_dlopen() {
  memlimit_real_dlmopen = dlsym(RTLD_NEXT, "dlmopen");
  memlimit_real_dlopen = dlsym(RTLD_NEXT, "dlopen");
}

}  // extern "C"

#if defined(RTLD_DEEPBIND)
static_assert(RTLD_DEEPBIND == 8, "the assembly below clears this bit");
#endif
static_assert(sizeof memlimit_loader_listener == sizeof(void*),
              "the assembly below loads and calls it");

#if defined(__x86_64__)

__asm__(R"(
        .macro  MEMLIMIT_KEEP_ARGUMENTS
        pushq   %rdi
        .cfi_adjust_cfa_offset 8
        pushq   %rsi
        .cfi_adjust_cfa_offset 8
        pushq   %rdx
        .cfi_adjust_cfa_offset 8
        .endm
        .macro  MEMLIMIT_GET_ARGUMENTS
        popq    %rdx
        .cfi_adjust_cfa_offset -8
        popq    %rsi
        .cfi_adjust_cfa_offset -8
        popq    %rdi
        .cfi_adjust_cfa_offset -8
        .endm

        .macro  MEMLIMIT_FORWARD_DLOPEN name, real, flags
        .globl  \name
        .type   \name, @function
        .balign 16
\name:
        .cfi_startproc
        endbr64
        movq    \real(%rip), %rax
        testq   %rax, %rax
        jne     1f
        MEMLIMIT_KEEP_ARGUMENTS
        call    memlimit_resolve_dlopen
        MEMLIMIT_GET_ARGUMENTS
1:      movq    memlimit_loader_listener(%rip), %rax
        testq   %rax, %rax
        je      2f
        MEMLIMIT_KEEP_ARGUMENTS
        movq    24(%rsp), %rdi
        call    *%rax
        MEMLIMIT_GET_ARGUMENTS
2:      movq    \real(%rip), %rax
        lock incl memlimit_loader_calls(%rip)
        andl    $~8, \flags
        jmp     *%rax
        .cfi_endproc
        .size   \name, .-\name
        .endm

        .text
        MEMLIMIT_FORWARD_DLOPEN dlopen,  memlimit_real_dlopen,  %esi
)"
#if defined(LM_ID_BASE)
        R"(
        MEMLIMIT_FORWARD_DLOPEN dlmopen, memlimit_real_dlmopen, %edx
)"
#endif
        R"(
        .purgem MEMLIMIT_FORWARD_DLOPEN
        .purgem MEMLIMIT_GET_ARGUMENTS
        .purgem MEMLIMIT_KEEP_ARGUMENTS
)");

#elif defined(__aarch64__)

__asm__(R"(
        .macro  MEMLIMIT_FORWARD_DLOPEN name, real, flags
        .globl  \name
        .type   \name, %function
        .balign 16
\name:
        .cfi_startproc
        hint    #34 // bti c
        adrp    x16, \real
        ldr     x16, [x16, :lo12:\real]
        cbnz    x16, 1f
        stp     x29, x30, [sp, #-48]!
        .cfi_adjust_cfa_offset 48
        .cfi_rel_offset x30, 8
        stp     x0, x1, [sp, #16]
        str     x2, [sp, #32]
        bl      memlimit_resolve_dlopen
        ldr     x2, [sp, #32]
        ldp     x0, x1, [sp, #16]
        ldp     x29, x30, [sp], #48
        .cfi_restore x30
        .cfi_adjust_cfa_offset -48
1:      adrp    x16, memlimit_loader_listener
        ldr     x16, [x16, :lo12:memlimit_loader_listener]
        cbz     x16, 2f
        stp     x29, x30, [sp, #-48]!
        .cfi_adjust_cfa_offset 48
        .cfi_rel_offset x30, 8
        stp     x0, x1, [sp, #16]
        str     x2, [sp, #32]
        mov     x0, x30
        blr     x16
        ldr     x2, [sp, #32]
        ldp     x0, x1, [sp, #16]
        ldp     x29, x30, [sp], #48
        .cfi_restore x30
        .cfi_adjust_cfa_offset -48
2:      adrp    x16, \real
        ldr     x16, [x16, :lo12:\real]
        adrp    x17, memlimit_loader_calls
        add     x17, x17, :lo12:memlimit_loader_calls
3:      ldxr    w14, [x17]
        add     w14, w14, #1
        stxr    w15, w14, [x17]
        cbnz    w15, 3b
        and     \flags, \flags, #~8
        br      x16
        .cfi_endproc
        .size   \name, .-\name
        .endm

        .text
        MEMLIMIT_FORWARD_DLOPEN dlopen,  memlimit_real_dlopen,  w1
)"
#if defined(LM_ID_BASE)
        R"(
        MEMLIMIT_FORWARD_DLOPEN dlmopen, memlimit_real_dlmopen, w2
)"
#endif
        R"(
        .purgem MEMLIMIT_FORWARD_DLOPEN
)");

#else
#error "dlopen needs a few lines of assembly for this architecture: see the comment at the top"
#endif
