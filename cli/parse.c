/* SPDX-License-Identifier: Apache-2.0 */
#include "parse.h"

#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "say.h"

/* ---- values ---- */

/* Decimal digits and nothing else; *end is what follows them. */
static bool parse_digits(const char *text, unsigned long long *value, const char **end) {
    if (text[0] < '0' || text[0] > '9') return false;
    char *stop;
    errno = 0;
    *value = strtoull(text, &stop, 10);
    *end = stop;
    return errno == 0;
}

bool parse_int(const option_row_t *row, const char *text, char *expected) {
    unsigned long long value;
    const char *end;
    snprintf(expected, EXPECTED_TEXT, "a number from %lld to %lld", row->min, row->max);
    if (!parse_digits(text, &value, &end) || *end != '\0') return false;
    if (value < (unsigned long long)row->min || value > (unsigned long long)row->max) return false;
    *(int *)row->value = (int)value;
    return true;
}

bool parse_size(const option_row_t *row, const char *text, char *expected) {
    static const char suffixes[] = "KMGT";
    unsigned long long value;
    const char *end;
    snprintf(expected, EXPECTED_TEXT, "a number of bytes from %lld, such as 8, 4K, 1M or 1G", row->min);
    if (!parse_digits(text, &value, &end)) return false;
    if (*end != '\0') {
        const char *suffix = strchr(suffixes, *end >= 'a' ? *end - 'a' + 'A' : *end);
        if (suffix == NULL || end[1] != '\0') return false;
        unsigned shift = 10 * (unsigned)(suffix - suffixes + 1);
        if (value > UINT64_MAX >> shift) return false;
        value <<= shift;
    }
    if (value < (unsigned long long)row->min || value > (unsigned long long)row->max) return false;
    *(size_t *)row->value = (size_t)value;
    return true;
}

/* Parses what stands between commas, one after the other. */
static bool parse_list(const option_row_t *row, const char *text, bool (*add)(const option_row_t *, const char *)) {
    char list[1024], *rest, *word;
    if ((size_t)snprintf(list, sizeof list, "%s", text) >= sizeof list || text[0] == '\0') return false;
    for (word = strtok_r(list, ",", &rest); word != NULL; word = strtok_r(NULL, ",", &rest)) {
        if (!add(row, word)) return false;
    }
    return true;
}

static bool add_size(const option_row_t *row, const char *word) {
    sizes_t *sizes = row->value;
    option_row_t each = *row;
    char ignored[EXPECTED_TEXT];
    if (sizes->count == SIZES_MAX) return false;
    each.value = &sizes->bytes[sizes->count++];
    return parse_size(&each, word, ignored);
}

bool parse_sizes(const option_row_t *row, const char *text, char *expected) {
    sizes_t *sizes = row->value;
    snprintf(expected, EXPECTED_TEXT, "up to %d numbers of bytes from %lld, such as 4K,64K,1M", SIZES_MAX, row->min);
    sizes->count = 0;
    return parse_list(row, text, add_size) && sizes->count > 0;
}

bool parse_range(const option_row_t *row, const char *text, char *expected) {
    unsigned long long first, last;
    const char *end;
    snprintf(expected, EXPECTED_TEXT, "a number or a range A-B, from %lld to %lld", row->min, row->max);
    if (!parse_digits(text, &first, &end)) return false;
    last = first;
    if (*end == '-' && !parse_digits(end + 1, &last, &end)) return false;
    if (*end != '\0' || first > last) return false;
    if (first < (unsigned long long)row->min || last > (unsigned long long)row->max) return false;
    *(range_t *)row->value = (range_t){(int)first, (int)last};
    return true;
}

static bool add_numbers(const option_row_t *row, const char *word) {
    numbers_t *numbers = row->value;
    range_t range;
    option_row_t each = *row;
    char ignored[EXPECTED_TEXT];
    each.value = &range;
    if (!parse_range(&each, word, ignored)) return false;
    for (int n = range.first; n <= range.last; n++) {
        if (numbers->count == NUMBERS_MAX) return false;
        numbers->values[numbers->count++] = n;
    }
    return true;
}

bool parse_numbers(const option_row_t *row, const char *text, char *expected) {
    numbers_t *numbers = row->value;
    snprintf(expected, EXPECTED_TEXT, "numbers from %lld to %lld, such as 2,4 or 2-8", row->min, row->max);
    numbers->count = 0;
    return parse_list(row, text, add_numbers) && numbers->count > 0;
}

bool parse_seconds(const option_row_t *row, const char *text, char *expected) {
    char *end;
    snprintf(expected, EXPECTED_TEXT, "a number of seconds from %lld to %lld", row->min, row->max);
    if (strspn(text, "0123456789.") != strlen(text)) return false; /* strtod knows hexadecimals and infinities */
    double value = strtod(text, &end);
    if (end == text || *end != '\0' || value < (double)row->min || value > (double)row->max) return false;
    *(double *)row->value = value;
    return true;
}

bool parse_seed(const option_row_t *row, const char *text, char *expected) {
    unsigned long long value;
    const char *end;
    snprintf(expected, EXPECTED_TEXT, "a number from 0 to %llu", (unsigned long long)UINT64_MAX);
    if (!parse_digits(text, &value, &end) || *end != '\0') return false;
    *(uint64_t *)row->value = value;
    return true;
}

bool parse_path(const option_row_t *row, const char *text, char *expected) {
    snprintf(expected, EXPECTED_TEXT, "the name of a file");
    *(const char **)row->value = text;
    return text[0] != '\0';
}

bool parse_word(const option_row_t *row, const char *text, char *expected) {
    size_t length = strlen(text);
    snprintf(expected, EXPECTED_TEXT, "%s", row->argument);
    for (const char *word = row->argument; word != NULL; word = strchr(word, '|')) {
        if (*word == '|') word++;
        if (strncmp(word, text, length) != 0 || length == 0) continue;
        if (word[length] != '|' && word[length] != '\0') continue;
        *(const char **)row->value = text;
        return true;
    }
    return false;
}

static const char *dtype_name(int index) { return onehop_dtype_string((onehop_dtype_t)index); }
static const char *op_name(int index) { return onehop_op_string((onehop_op_t)index); }

/* The index of `text` among the names; -1 and what was expected if it is none of them. */
static int find_name(const char *text, const char *(*name)(int), char *expected) {
    size_t length = (size_t)snprintf(expected, EXPECTED_TEXT, "one of");
    for (int i = 0; name(i) != NULL; i++) {
        if (strcmp(text, name(i)) == 0) return i;
        if (length < EXPECTED_TEXT) {
            length += (size_t)snprintf(expected + length, EXPECTED_TEXT - length, "%s %s", i > 0 ? "," : "", name(i));
        }
    }
    return -1;
}

bool parse_dtype(const option_row_t *row, const char *text, char *expected) {
    int index = find_name(text, dtype_name, expected);
    if (index >= 0) *(onehop_dtype_t *)row->value = (onehop_dtype_t)index;
    return index >= 0;
}

static bool add_dtype(const option_row_t *row, const char *word) {
    dtypes_t *dtypes = row->value;
    option_row_t each = *row;
    char ignored[EXPECTED_TEXT];
    if (dtypes->count == DTYPES_MAX) return false;
    each.value = &dtypes->values[dtypes->count++];
    return parse_dtype(&each, word, ignored);
}

bool parse_dtypes(const option_row_t *row, const char *text, char *expected) {
    dtypes_t *dtypes = row->value;
    char names[EXPECTED_TEXT];
    find_name("", dtype_name, names);
    snprintf(expected, EXPECTED_TEXT, "%.200s, or several, such as float16,float32", names);
    dtypes->count = 0;
    return parse_list(row, text, add_dtype) && dtypes->count > 0;
}

bool parse_op(const option_row_t *row, const char *text, char *expected) {
    int index = find_name(text, op_name, expected);
    if (index >= 0) *(onehop_op_t *)row->value = (onehop_op_t)index;
    return index >= 0;
}

static const struct {
    const char *name;
    onehop_device_t device;
} devices[] = {{"auto", ONEHOP_DEVICE_AUTO}, {"host", ONEHOP_DEVICE_HOST}, {"cuda", ONEHOP_DEVICE_CUDA}, {NULL, 0}};

static const char *device_name(int index) { return devices[index].name; }

bool parse_device(const option_row_t *row, const char *text, char *expected) {
    int index = find_name(text, device_name, expected);
    if (index >= 0) *(onehop_device_t *)row->value = devices[index].device;
    return index >= 0;
}

/* "auto", then the algorithms of the host, then those of CUDA that the host does not have. */
static const char *algorithm_name(int index) {
    if (index == 0) return "auto";
    int hosts = 0;
    while (onehop_algorithm_name(ONEHOP_DEVICE_HOST, hosts) != NULL) hosts++;
    if (index <= hosts) return onehop_algorithm_name(ONEHOP_DEVICE_HOST, index - 1);
    index -= hosts;
    for (int i = 0;; i++) {
        const char *name = onehop_algorithm_name(ONEHOP_DEVICE_CUDA, i);
        if (name == NULL) return NULL;
        bool known = false;
        for (int h = 0; h < hosts; h++) known |= strcmp(name, onehop_algorithm_name(ONEHOP_DEVICE_HOST, h)) == 0;
        if (!known && --index == 0) return name;
    }
}

bool parse_algorithm(const option_row_t *row, const char *text, char *expected) {
    int index = find_name(text, algorithm_name, expected);
    if (index >= 0) *(const char **)row->value = algorithm_name(index);
    return index >= 0;
}

/* ---- the line ---- */

enum { HELP_COLUMN = 24, VERSION = 1, LONG_OPTION = 256 };

static void print_help(const command_line_t *line) {
    printf("usage: %s %s\n\n%s\n\noptions:\n", say_get_name(), line->usage, line->about);
    for (int i = 0; i < line->noptions; i++) {
        const option_row_t *row = &line->options[i];
        char left[64], letter[] = "-x, ";
        letter[1] = row->letter;
        snprintf(left, sizeof left, "  %s--%s%s%s", row->letter != 0 ? letter : "    ", row->name,
                 row->argument != NULL ? " " : "", row->argument != NULL ? row->argument : "");
        printf("%-*s  %s\n", HELP_COLUMN, left, row->help);
    }
    printf("%-*s  %s\n", HELP_COLUMN, "  -h, --help", "print this and exit");
    printf("%-*s  %s\n", HELP_COLUMN, "      --version", "print the version and exit");
}

/* getopt's own table and its string of letters. */
typedef struct getopt_tables {
    struct option *names;
    char letters[64];
} getopt_tables_t;

static bool make_tables(const command_line_t *line, getopt_tables_t *out) {
    out->names = calloc((size_t)line->noptions + 3, sizeof *out->names);
    if (out->names == NULL) return false;
    char *letter = out->letters;
    if (line->stop_at_operand) *letter++ = '+';
    *letter++ = ':'; /* tell a missing argument from an unknown option */
    *letter++ = 'h';
    for (int i = 0; i < line->noptions; i++) {
        const option_row_t *row = &line->options[i];
        out->names[i] = (struct option){row->name, row->argument != NULL, NULL, LONG_OPTION + i};
        if (row->letter == 0) continue;
        *letter++ = row->letter;
        if (row->argument != NULL) *letter++ = ':';
    }
    *letter = '\0';
    out->names[line->noptions] = (struct option){"help", no_argument, NULL, 'h'};
    out->names[line->noptions + 1] = (struct option){"version", no_argument, NULL, VERSION};
    return true;
}

static const option_row_t *find_row(const command_line_t *line, int code) {
    if (code >= LONG_OPTION) return &line->options[code - LONG_OPTION];
    for (int i = 0; i < line->noptions && code != 0; i++) {
        if (line->options[i].letter == code) return &line->options[i];
    }
    return NULL;
}

/* What getopt would not take: an option that is none, one without its argument, or one that takes none. */
static int refuse(const command_line_t *line, int code, const char *word) {
    const option_row_t *row = find_row(line, optopt);
    if (code == ':') {
        complain("--%s needs an argument: %s", row->name, row->argument);
    } else if (row != NULL) {
        complain("--%s takes no argument", row->name);
    } else if (optopt == 'h' || optopt == VERSION) {
        complain("--%s takes no argument", optopt == 'h' ? "help" : "version");
    } else if (optopt != 0) {
        complain("-%c is no option: see %s --help", optopt, say_get_name());
    } else {
        complain("%s is no option, or short for several: see %s --help", word, say_get_name());
    }
    return EXIT_USAGE;
}

static int take_option(const option_row_t *row) {
    if (row->argument == NULL) {
        *(bool *)row->value = true;
        return PARSE_GO_ON;
    }
    char expected[EXPECTED_TEXT];
    if (row->parse(row, optarg, expected)) return PARSE_GO_ON;
    complain("--%s is \"%s\": expected %s", row->name, optarg, expected);
    return EXIT_USAGE;
}

static int take_code(const command_line_t *line, int code, const char *word) {
    switch (code) {
    case 'h': print_help(line); return stdout_arrived() ? EXIT_OK : EXIT_FAILED;
    case VERSION: printf("onehop %s\n", onehop_version()); return stdout_arrived() ? EXIT_OK : EXIT_FAILED;
    case '?':
    case ':': return refuse(line, code, word);
    default: return take_option(find_row(line, code));
    }
}

int parse_command_line(const command_line_t *line, int argc, char **argv, int *operand) {
    getopt_tables_t tables;
    if (!make_tables(line, &tables)) {
        complain("no memory");
        return EXIT_FAILED;
    }
    int code, status = PARSE_GO_ON;
    while (status == PARSE_GO_ON && (code = getopt_long(argc, argv, tables.letters, tables.names, NULL)) != -1) {
        status = take_code(line, code, argv[optind - 1]);
    }
    free(tables.names);
    *operand = optind;
    if (status == PARSE_GO_ON && optind < argc && !line->operands) {
        complain("\"%s\" is not expected: there is nothing but options", argv[optind]);
        return EXIT_USAGE;
    }
    return status;
}
