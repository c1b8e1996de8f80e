/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Command lines. A subcommand lists its options in a table; from it come the parsing, the complaints and --help.
 */
#ifndef CLI_PARSE_H
#define CLI_PARSE_H

#include <onehop.h>
#include <stdbool.h>
#include <stddef.h>

typedef struct option_row option_row_t;

/*
 * Stores what `text` says in *row->value. If it says nothing that will do, returns false and puts what was expected
 * into `expected`.
 */
enum { EXPECTED_TEXT = 256 };
typedef bool (*parse_fn)(const option_row_t *row, const char *text, char *expected);

struct option_row {
    const char *name;     /* "nranks" for --nranks */
    char letter;          /* 'n' for -n; 0: none */
    const char *argument; /* what --help calls it, to parse_word the words to choose from: "graph|eager"; NULL: none,
                             the option is a bool that becomes true */
    parse_fn parse;       /* with an argument: one of those below */
    void *value;
    long long min, max; /* for numbers and sizes */
    const char *help;
};

typedef struct command_line {
    const char *usage; /* the usage line after the command's name */
    const char *about; /* the paragraphs of --help before the options */
    const option_row_t *options;
    int noptions;
    bool operands;        /* whether there may be any */
    bool stop_at_operand; /* what follows the first of them is not ours to parse */
} command_line_t;

enum { PARSE_GO_ON = -1 };

/*
 * Returns PARSE_GO_ON, with argv[*operand], ... argv[argc-1] left over; or the exit status if all is said already:
 * --help or --version was printed, or there was a complaint.
 */
int parse_command_line(const command_line_t *line, int argc, char **argv, int *operand);

bool parse_int(const option_row_t *row, const char *text, char *expected);       /* int */
bool parse_size(const option_row_t *row, const char *text, char *expected);      /* size_t: 8, 4K, 1M, 1G */
bool parse_sizes(const option_row_t *row, const char *text, char *expected);     /* sizes_t: 4K,64K,1M */
bool parse_range(const option_row_t *row, const char *text, char *expected);     /* range_t: 4, 1-8 */
bool parse_numbers(const option_row_t *row, const char *text, char *expected);   /* numbers_t: 2,4 or 1-8 */
bool parse_seconds(const option_row_t *row, const char *text, char *expected);   /* double */
bool parse_seed(const option_row_t *row, const char *text, char *expected);      /* uint64_t */
bool parse_path(const option_row_t *row, const char *text, char *expected);      /* const char * */
bool parse_word(const option_row_t *row, const char *text, char *expected);      /* const char *: one of A|B|... */
bool parse_dtype(const option_row_t *row, const char *text, char *expected);     /* onehop_dtype_t */
bool parse_dtypes(const option_row_t *row, const char *text, char *expected);    /* dtypes_t: float16,float32 */
bool parse_op(const option_row_t *row, const char *text, char *expected);        /* onehop_op_t */
bool parse_device(const option_row_t *row, const char *text, char *expected);    /* onehop_device_t */
bool parse_algorithm(const option_row_t *row, const char *text, char *expected); /* const char * */

typedef struct range {
    int first, last;
} range_t;

enum { SIZES_MAX = 64 };
typedef struct sizes {
    size_t bytes[SIZES_MAX];
    int count;
} sizes_t;

enum { NUMBERS_MAX = 64 };
typedef struct numbers {
    int values[NUMBERS_MAX];
    int count;
} numbers_t;

enum { DTYPES_MAX = 16 };
typedef struct dtypes {
    onehop_dtype_t values[DTYPES_MAX];
    int count;
} dtypes_t;

#endif
