/* SPDX-License-Identifier: MIT */
/* Takes some of the static thread-local storage that is left for libraries loaded late. */
static __thread char block[64] __attribute__((tls_model("initial-exec"), used));

char *tls_module_block(void);
char *tls_module_block(void)
{
    return block;
}
