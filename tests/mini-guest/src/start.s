// arm64 Image header (Documentation/arch/arm64/booting.rst), the boot vCPU's and the secondary vCPUs' first
// instructions, and the exception vectors.

.section .head, "ax"
.global image_start
image_start:
    b       boot_entry
    .long   0
    .quad   TEXT_OFFSET
    .quad   IMAGE_SIZE
    .quad   2                       // little endian, 4 KiB pages, near the start of RAM
    .quad   0, 0, 0
    .ascii  "ARM\x64"
    .long   0

// x0 = device tree
boot_entry:
    mov     x20, x0
    bl      enable_mmu
    adrp    x0, bss_start
    add     x0, x0, :lo12:bss_start
    adrp    x1, bss_end
    add     x1, x1, :lo12:bss_end
1:  cmp     x0, x1
    b.hs    2f
    stp     xzr, xzr, [x0], #16
    b       1b
2:  adrp    x1, boot_stack_top
    add     x1, x1, :lo12:boot_stack_top
    mov     sp, x1
    mov     x0, x20
    bl      boot_main
    b       .

// x0 = number of the vCPU, as given to PSCI CPU_ON
.global secondary_entry
secondary_entry:
    mov     x20, x0
    bl      enable_mmu
    adrp    x1, secondary_stacks
    add     x1, x1, :lo12:secondary_stacks
    ldr     x2, =SECONDARY_STACK_SIZE
    madd    x1, x20, x2, x1         // stacks grow down from the next one's bottom; number 0 is the boot vCPU
    mov     sp, x1
    mov     x0, x20
    bl      secondary_main
    b       .

// The MMU is switched on before the first store, so that no store bypasses the caches and nothing has to be cleaned.
enable_mmu:
    adrp    x1, mmu_level0
    add     x1, x1, :lo12:mmu_level0
    msr     ttbr0_el1, x1
    mov     x1, #0x04ff             // attribute 0: normal write-back, 1: device nGnRE
    msr     mair_el1, x1
    mrs     x2, id_aa64mmfr0_el1
    and     x2, x2, #0xf
    mov     x3, #5
    cmp     x2, x3
    csel    x2, x2, x3, lo          // at most 48 bits of physical address
    ldr     x1, =0x803510           // 48 bits of virtual address, 4 KiB, cacheable walks, no upper half
    orr     x1, x1, x2, lsl #32
    msr     tcr_el1, x1
    mov     x1, #(3 << 20)
    msr     cpacr_el1, x1
    adrp    x1, vectors
    add     x1, x1, :lo12:vectors
    msr     vbar_el1, x1
    msr     tpidr_el1, xzr          // no abort is expected
    tlbi    vmalle1
    ic      iallu
    dsb     sy
    isb
    ldr     x1, =0x30d01805         // MMU, data and instruction cache; the bits that must be one
    msr     sctlr_el1, x1
    isb
    ret
.ltorg

.balign 2048
vectors:
.rept 16
.balign 128
    b       take_exception
.endr

take_exception:
    mrs     x0, esr_el1
    mrs     x3, tpidr_el1           // where a probe goes on, or zero
    cbz     x3, 1f
    msr     elr_el1, x3
    eret
1:
    mrs     x1, elr_el1
    mrs     x2, far_el1
    // A fault may come from a broken stack pointer: start over at the top of the boot stack.
    adrp    x3, boot_stack_top
    add     x3, x3, :lo12:boot_stack_top
    mov     sp, x3
    bl      exception_main
    b       .

// x0 = an address. Each makes one access whose abort leaves a hypervisor no valid syndrome, and returns the abort's ESR,
// or zero where there was none.
.macro probe name, access:vararg
.global \name
\name:
    adr     x3, 1f
    msr     tpidr_el1, x3
    mov     x1, x0
    mov     x0, xzr
    \access
1:  msr     tpidr_el1, xzr
    ret
.endm

    probe   probe_load_pair, ldp x2, x4, [x1]
    probe   probe_store_pair, stp xzr, xzr, [x1]
    probe   probe_load_vector, ldr q0, [x1]
    probe   probe_load_and_advance, ldr x2, [x1], #8

// Identity map: the first GiB holds the devices, the next four RAM. The alias half is entered at run time.
.section .data.mmu, "aw"
.balign 4096
.global mmu_level0
mmu_level0:
    .quad   mmu_level1 + 3
    .fill   511, 8, 0
.global mmu_level1
mmu_level1:
    .quad   0x0060000000000405
    .quad   0x0000000040000701
    .quad   0x0000000080000701
    .quad   0x00000000c0000701
    .quad   0x0000000100000701
    .fill   507, 8, 0
.global mmu_level1_alias
mmu_level1_alias:
    .fill   512, 8, 0
