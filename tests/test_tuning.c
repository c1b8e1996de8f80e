/* SPDX-License-Identifier: Apache-2.0 */
/* Tuning tables: what a file may hold, what is said of one that will not do, and which table is in force. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/status.h"
#include "bootstrap/agree.h"
#include "crew.h"
#include "select/built_in.h"
#include "select/tuning.h"

#include <cmocka.h>

enum { RANKS = 3, TEXT = 8192 };

#define STRING_(x) #x
#define STRING(x)  STRING_(x)
#define VERSION    STRING(ONEHOP_VERSION_MAJOR) "." STRING(ONEHOP_VERSION_MINOR) "." STRING(ONEHOP_VERSION_PATCH)

static const char good[] =
    "{\"schema\": \"onehop-tuning-1\", \"version\": \"" VERSION "\", \"commit\": \"unknown\", \"date\": "
    "\"2026-11-21T10:11:12Z\", \"host\": \"here\", \"more\": [{}],\n"
    " \"tables\": [\n"
    "  {\"device\": \"cuda\", \"gpu\": \"NVIDIA H200\", \"links\": \"nvlink\", \"nranks\": 4, \"dtype\": \"bfloat16\", "
    "\"max_blocks\": 0,\n"
    "   \"rows\": [{\"from_bytes\": 0, \"algorithm\": \"one_shot_push\", \"packets\": 1, \"threads\": 64, \"blocks\": "
    "132, \"time_us\": 2.5},\n"
    "            {\"from_bytes\": 65537, \"algorithm\": \"two_shot_push\", \"packets\": 4, \"threads\": 512, "
    "\"blocks\": 65535},\n"
    "            {\"from_bytes\": 1073741824, \"algorithm\": \"two_shot_bulk\", \"packets\": 2, \"threads\": 32, "
    "\"blocks\": 1}]},\n"
    "  {\"device\": \"host\", \"cpu\": \"any\", \"placement\": \"far\", \"nranks\": 2, \"registered\": false,\n"
    "   \"rows\": [{\"from_bytes\": 0, \"algorithm\": \"one_shot\", \"chunk_bytes\": 65536, \"stream\": false},\n"
    "            {\"from_bytes\": 8192, \"algorithm\": \"two_shot\", \"chunk_bytes\": 67108864, \"stream\": true}]},\n"
    "  {\"device\": \"host\", \"placement\": \"near\", \"nranks\": 2, \"registered\": true,\n"
    "   \"rows\": [{\"from_bytes\": 0, \"algorithm\": \"direct\", \"chunk_bytes\": 0, \"stream\": false}]}]}\n";

static onehop_result_t parse(const char *text, oh_tuning_file_t *file) {
    return oh_tuning_file_parse("dir/t.json", text, strlen(text), file);
}

static oh_tuning_file_t parsed(const char *text) {
    oh_tuning_file_t file;
    if (parse(text, &file) != ONEHOP_SUCCESS) fail_msg("%s", onehop_last_error());
    return file;
}

static void expect_refused(const char *text, size_t bytes, const char *sentence) {
    oh_tuning_file_t file;
    assert_int_equal(oh_tuning_file_parse("dir/t.json", text, bytes, &file), ONEHOP_INVALID_ARGUMENT);
    assert_string_equal(onehop_last_error(), sentence);
    assert_true(file.found && file.gpus == NULL && file.hosts == NULL && file.ngpus == 0 && file.nhosts == 0);
}

/* `text` with the first `old` replaced. */
static void edit(const char *text, const char *old, const char *new, char out[TEXT]) {
    const char *at = strstr(text, old);
    if (at == NULL) fail_msg("there is no %s", old);
    snprintf(out, TEXT, "%.*s%s%s", (int)(at - text), text, new, at + strlen(old));
}

/* ---- files ---- */

static void test_good_file(void **state) {
    (void)state;
    oh_tuning_file_t file = parsed(good);
    assert_true(file.found);
    assert_string_equal(file.date, "2026-11-21T10:11:12Z");
    assert_string_equal(file.host, "here");
    assert_int_equal(file.ngpus, 1);
    const oh_tuned_gpus_t *gpus = &file.gpus[0];
    assert_string_equal(gpus->gpu, "NVIDIA H200");
    assert_true(gpus->links == OH_NVLINK && gpus->nranks == 4 && gpus->dtype == ONEHOP_BFLOAT16);
    assert_int_equal(gpus->max_blocks, 0);
    assert_string_equal(gpus->table.name, "t.json, bfloat16");
    assert_int_equal(gpus->table.count, 3);
    const oh_device_row_t *row = gpus->table.rows;
    assert_true(row[0].from_bytes == 0 && row[0].algorithm == OH_ONE_SHOT_PUSH && row[0].packets == 1);
    assert_true(row[0].threads == 64 && row[0].blocks == 132);
    assert_true(row[1].from_bytes == 65537 && row[1].algorithm == OH_TWO_SHOT_PUSH && row[1].packets == 4);
    assert_true(row[1].threads == 512 && row[1].blocks == 65535);
    assert_true(row[2].from_bytes == 1 << 30 && row[2].algorithm == OH_TWO_SHOT_BULK && row[2].threads == 32);
    assert_int_equal(row[2].packets, 1); /* it has none */
    assert_int_equal(file.nhosts, 2);
    const oh_tuned_hosts_t *hosts = file.hosts;
    assert_true(hosts[0].placement == OH_FAR && hosts[0].nranks == 2 && !hosts[0].registered);
    assert_true(hosts[0].table.count == 2 && hosts[1].table.count == 1);
    assert_string_equal(hosts[0].table.name, "t.json");
    const oh_host_row_t *rows = hosts[0].table.rows;
    assert_true(rows[0].from_bytes == 0 && rows[0].algorithm == OH_ONE_SHOT && !rows[0].stream);
    assert_true(rows[1].from_bytes == 8192 && rows[1].algorithm == OH_TWO_SHOT && rows[1].stream);
    assert_true(rows[0].chunk_bytes == 65536 && rows[1].chunk_bytes == 64 << 20);
    assert_true(hosts[1].placement == OH_NEAR && hosts[1].registered && hosts[1].table.rows[0].algorithm == OH_DIRECT);
    oh_tuning_file_free(&file);
    assert_true(file.gpus == NULL && file.hosts == NULL);

    file = parsed("{\"schema\": \"onehop-tuning-1\", \"version\": \"" VERSION "\", \"date\": \"d\", \"host\": \"h\", "
                  "\"tables\": []}");
    assert_true(file.ngpus == 0 && file.nhosts == 0);
    oh_tuning_file_free(&file);
}

static void test_bad_files(void **state) {
    (void)state;
    static const char *const bad[][3] = {
        {"onehop-tuning-1", "onehop-tuning-2", "schema is \"onehop-tuning-2\": expected \"onehop-tuning-1\""},
        {"\"schema\"", "\"Schema\"", "schema is missing: expected \"onehop-tuning-1\""},
        {"\"" VERSION "\"", "\"0.0.9\"", ""},
        {"\"" VERSION "\"", "0.1", "version is 0.1: expected a text of 1 to 127 bytes"},
        {"\"date\"", "\"Date\"", "date is missing: expected a text of 1 to 127 bytes"},
        {"\"here\"", "\"\"", "host is \"\": expected a text of 1 to 127 bytes"},
        {"\"here\"", "\"a\\u0000b\"", "host is \"a\\u0000b\": expected a text of 1 to 127 bytes"},
        {"\"tables\"", "\"tabs\"", "tables is missing: expected an array of 0 to 256 tables, each an object"},
        {"{\"device\": \"cuda\"", "7, {\"device\": \"cuda\"", NULL},
        {"\"cuda\"", "\"rocm\"", "table 1: device is \"rocm\": expected one of host, cuda"},
        {"\"device\": \"host\", \"placement\"", "\"placement\"",
         "table 3: device is missing: expected one of host, cuda"},
        {"\"NVIDIA H200\"", "200", "table 1: gpu is 200: expected a text of 1 to 127 bytes"},
        {"\"nvlink\"", "\"NVLink\"", "table 1: links is \"NVLink\": expected one of pcie, nvlink"},
        {"\"nranks\": 4", "\"nranks\": 9", "table 1: nranks is 9: expected 1 to 8"},
        {"\"nranks\": 2", "\"nranks\": 65", "table 2: nranks is 65: expected 1 to 64"},
        {"\"nranks\": 2", "\"nranks\": 0", "table 2: nranks is 0: expected 1 to 64"},
        {"\"nranks\": 2", "\"nranks\": \"2\"", "table 2: nranks is \"2\": expected 1 to 64"},
        {"\"nranks\": 2", "\"nranks\": 2.0", "table 2: nranks is 2.0: expected 1 to 64"},
        {"\"nranks\": 2", "\"nranks\": 4294967298", "table 2: nranks is 4294967298: expected 1 to 64"},
        {"\"nranks\": 2", "\"nranks\": null", "table 2: nranks is null: expected 1 to 64"},
        {"\"bfloat16\"", "\"bf16\"",
         "table 1: dtype is \"bf16\": expected one of float32, float16, bfloat16, float64, int8, uint8, int32, uint32, "
         "int64, uint64"},
        {"\"max_blocks\": 0", "\"max_blocks\": -1", "table 1: max_blocks is -1: expected 0 to 65535"},
        {"\"max_blocks\": 0", "\"blocks\": 0", "table 1: max_blocks is missing: expected 0 to 65535"},
        {"\"far\"", "\"remote\"", "table 2: placement is \"remote\": expected one of near, far, oversubscribed"},
        {"\"registered\": false", "\"registered\": 0", "table 2: registered is 0: expected true or false"},
        {"\"rows\": [", "\"rows\": {}, \"other\": [",
         "table 1: rows is {}: expected an array of 1 to 64 rows, each an object"},
        {"\"rows\": [", "\"rows\": [], \"other\": [",
         "table 1: rows is an array of 0: expected an array of 1 to 64 rows, each an object"},
        {"\"rows\": [", "\"rows\": [0], \"other\": [",
         "table 1: rows is [0]: expected an array of 1 to 64 rows, each an object"},
        {"\"from_bytes\": 0", "\"from_bytes\": 1", "table 1, row 1: from_bytes is 1: expected 0 in the first row"},
        {"\"from_bytes\": 8192", "\"from_bytes\": 0",
         "table 2, row 2: from_bytes is 0: expected more than in the row before"},
        {"\"from_bytes\": 65537", "\"from_bytes\": 1073741824",
         "table 1, row 3: from_bytes is 1073741824: expected more than in the row before"},
        {"\"from_bytes\": 8192", "\"from_bytes\": 1073741825",
         "table 2, row 2: from_bytes is 1073741825: expected 0 to 1073741824"},
        {"\"from_bytes\": 8192", "\"from_bytes\": 99999999999999999999999",
         "table 2, row 2: from_bytes is 18446744073709551615: expected 0 to 1073741824"},
        {"\"one_shot_push\"", "\"one_shot\"",
         "table 1, row 1: algorithm is \"one_shot\": expected one of one_shot_push, two_shot_push, one_shot_pull, "
         "two_shot_pull, two_shot_bulk"},
        {"\"one_shot\"", "\"auto\"",
         "table 2, row 1: algorithm is \"auto\": expected one of one_shot, two_shot, direct"},
        {"\"one_shot\"", "\"direct\"",
         "table 2, row 1: algorithm is \"direct\": expected one that needs no registration, as the table's buffers "
         "have none"},
        {"\"packets\": 4", "\"packets\": 3", "table 1, row 2: packets is 3: expected 1, 2 or 4"},
        {"\"packets\": 4", "\"packets\": 5", "table 1, row 2: packets is 5: expected 1 to 4"},
        {"\"packets\": 4, ", "", "table 1, row 2: packets is missing: expected 1 to 4"},
        {"\"threads\": 64", "\"threads\": 65", "table 1, row 1: threads is 65: expected 32 to 512, a multiple of 32"},
        {"\"threads\": 64", "\"threads\": 0", "table 1, row 1: threads is 0: expected 32 to 512, a multiple of 32"},
        {"\"threads\": 512", "\"threads\": 544",
         "table 1, row 2: threads is 544: expected 32 to 512, a multiple of 32"},
        {"\"blocks\": 1}", "\"blocks\": 0}", "table 1, row 3: blocks is 0: expected 1 to 65535"},
        {"\"blocks\": 65535", "\"blocks\": 65536", "table 1, row 2: blocks is 65536: expected 1 to 65535"},
        {"\"chunk_bytes\": 65536", "\"chunk_bytes\": 0",
         "table 2, row 1: chunk_bytes is 0: expected more than 0 for what is not direct"},
        {"\"chunk_bytes\": 65536", "\"chunk_bytes\": 1000",
         "table 2, row 1: chunk_bytes is 1000: expected 0 to 67108864, a multiple of 4096"},
        {"\"chunk_bytes\": 67108864", "\"chunk_bytes\": 67112960",
         "table 2, row 2: chunk_bytes is 67112960: expected 0 to 67108864, a multiple of 4096"},
        {"\"stream\": true", "\"stream\": \"yes\"", "table 2, row 2: stream is \"yes\": expected true or false"},
        {"\"placement\": \"near\", \"nranks\": 2, \"registered\": true",
         "\"placement\": \"far\", \"nranks\": 2, \"registered\": false",
         "table 3: it is the second of its nranks, placement and registered: expected one"},
    };
    char text[TEXT], sentence[OH_ERROR_TEXT];
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        edit(good, bad[i][0], bad[i][1], text);
        snprintf(sentence, sizeof sentence, "tuning file dir/t.json: %s", bad[i][2] != NULL ? bad[i][2] : "");
        if (strcmp(bad[i][1], "\"0.0.9\"") == 0) {
            snprintf(sentence, sizeof sentence,
                     "tuning file dir/t.json: made by onehop 0.0.9, this is %s: run `onehop tune` again",
                     onehop_version());
        }
        if (bad[i][2] == NULL) {
            oh_tuning_file_t file;
            assert_int_equal(parse(text, &file), ONEHOP_INVALID_ARGUMENT);
            assert_non_null(strstr(onehop_last_error(), "expected an array of 0 to 256 tables, each an object"));
        } else {
            expect_refused(text, strlen(text), sentence);
        }
    }
}

/* Twice the same table for GPUs, more tables and more rows than there may be. */
static void test_too_many(void **state) {
    (void)state;
    static const char head[] =
        "{\"schema\": \"onehop-tuning-1\", \"version\": \"" VERSION "\", \"date\": \"d\", \"host\": "
        "\"h\", \"tables\": [";
    static const char table[] = "{\"device\": \"cuda\", \"gpu\": \"G%d\", \"links\": \"pcie\", \"nranks\": 2, "
                                "\"dtype\": \"int8\", \"max_blocks\": 0, \"rows\": [";
    static const char row[] = "{\"from_bytes\": %d, \"algorithm\": \"one_shot_pull\", \"packets\": 1, \"threads\": 64, "
                              "\"blocks\": 2}%s";
    static char text[1 << 18];
    for (int tables = 1; tables <= OH_TUNING_FILE_TABLES + 1; tables += OH_TUNING_FILE_TABLES / 4) {
        for (int rows = 1; rows <= OH_TABLE_ROWS + 1; rows += OH_TABLE_ROWS) {
            if (tables > 1 && rows > 1) continue;
            int at = snprintf(text, sizeof text, "%s", head);
            for (int t = 0; t < tables; t++) {
                at += snprintf(text + at, sizeof text - (size_t)at, table, t);
                for (int r = 0; r < rows; r++) {
                    at += snprintf(text + at, sizeof text - (size_t)at, row, r, r + 1 < rows ? ", " : "]}");
                }
                at += snprintf(text + at, sizeof text - (size_t)at, "%s", t + 1 < tables ? ", " : "]}");
            }
            if (tables > OH_TUNING_FILE_TABLES) {
                expect_refused(text, (size_t)at,
                               "tuning file dir/t.json: tables is an array of 257: expected an array of 0 to 256 "
                               "tables, each an object");
            } else if (rows > OH_TABLE_ROWS) {
                expect_refused(text, (size_t)at,
                               "tuning file dir/t.json: table 1: rows is an array of 65: expected an array of 1 to 64 "
                               "rows, each an object");
            } else {
                oh_tuning_file_t file = parsed(text);
                assert_int_equal(file.ngpus, tables);
                oh_tuning_file_free(&file);
            }
        }
    }
    int at = snprintf(text, sizeof text, "%s", head);
    for (int t = 0; t < 2; t++) {
        at += snprintf(text + at, sizeof text - (size_t)at, table, 1);
        at += snprintf(text + at, sizeof text - (size_t)at, row, 0, t == 0 ? "]}, " : "]}]}");
    }
    expect_refused(text, (size_t)at,
                   "tuning file dir/t.json: table 2: it is the second of its gpu, links, nranks, dtype and max_blocks: "
                   "expected one");
}

static void test_not_json(void **state) {
    (void)state;
    static const char *const bad[][2] = {
        {"", "not JSON, at byte 0: unexpected end of data"},
        {"\n \n", "not JSON, at byte 3: unexpected end of data"},
        {"tuning", "not JSON, at byte 1: boolean expected"},
        {"{\"schema\": }", "not JSON, at byte 11: unexpected character"},
        {"{} x", "not JSON, at byte 3: unexpected character"},
        {"{}{}", "not JSON, at byte 2: unexpected character"},
        {"{\"a\": 'b'}", "not JSON, at byte 6: unexpected character"},
        {"[[[[[[[[[[[[]]]]]]]]]]]]", "not JSON, at byte 8: nesting too deep"},
        {"{\"a\": \"\xff\"}", "not JSON, at byte 7: invalid utf-8 string"},
        {"[1, 2]", "it is [ 1, 2 ]: expected an object"},
        {"null", "it is null: expected an object"},
        {"1", "it is 1: expected an object"},
        {"{}", "schema is missing: expected \"onehop-tuning-1\""},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char sentence[OH_ERROR_TEXT];
        snprintf(sentence, sizeof sentence, "tuning file dir/t.json: %s", bad[i][1]);
        expect_refused(bad[i][0], strlen(bad[i][0]), sentence);
    }
    /* A zero does not end it. */
    char text[TEXT];
    memcpy(text, good, sizeof good);
    text[sizeof good] = 'x';
    text[sizeof good + 1] = '\0';
    oh_tuning_file_t file;
    assert_int_equal(oh_tuning_file_parse("t", text, sizeof good + 1, &file), ONEHOP_INVALID_ARGUMENT);
    assert_non_null(strstr(onehop_last_error(), ": a zero in the text"));
    /* However much of it is missing. */
    for (size_t bytes = 0; bytes + 2 < sizeof good; bytes++) {
        snprintf(text, sizeof text, "%.*s", (int)bytes, good);
        assert_int_equal(parse(text, &file), ONEHOP_INVALID_ARGUMENT);
        assert_non_null(strstr(onehop_last_error(), ": unexpected end of data"));
    }
}

/* ---- where files lie ---- */

static char folder[64];

static int make_folder(void **state) {
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/onehop-test-tuning-XXXXXX");
    return mkdtemp(folder) == NULL;
}

static int remove_folder(void **state) {
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -r %s", folder);
    return system(command);
}

/* The name of a file in the folder that holds `text`. */
static const char *file_of(const char *name, const char *text) {
    static char path[128];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "w");
    if (file == NULL || fputs(text, file) == EOF || fclose(file) != 0) fail_msg("cannot write %s", path);
    return path;
}

static void expect_unreadable(const char *path, bool found, const char *words) {
    oh_tuning_file_t file;
    char sentence[OH_ERROR_TEXT];
    snprintf(sentence, sizeof sentence, "tuning file %s%s", path, words);
    assert_int_equal(oh_tuning_file_read(path, &file), ONEHOP_INVALID_ARGUMENT);
    assert_string_equal(onehop_last_error(), sentence);
    assert_true(file.found == found && file.gpus == NULL && file.hosts == NULL);
}

static void test_files(void **state) {
    (void)state;
    char path[256];
    oh_tuning_file_t file;
    assert_int_equal(oh_tuning_file_read(file_of("good", good), &file), ONEHOP_SUCCESS);
    assert_true(file.found && file.ngpus == 1 && file.nhosts == 2);
    assert_string_equal(file.hosts[0].table.name, "good");
    oh_tuning_file_free(&file);
    snprintf(path, sizeof path, "%s/none", folder);
    expect_unreadable(path, false, " cannot be opened: No such file or directory");
    snprintf(path, sizeof path, "%s/good/none", folder);
    expect_unreadable(path, false, " cannot be opened: Not a directory");
    snprintf(path, sizeof path, "%s/good/%0*d", folder, 150, 1);
    expect_unreadable(path, false, " cannot be opened: Not a directory");
    expect_unreadable(folder, true, ": expected a regular file");
    snprintf(path, sizeof path, "%s/pipe", folder);
    assert_int_equal(mkfifo(path, 0600), 0);
    expect_unreadable(path, true, ": expected a regular file");
    expect_unreadable("/dev/zero", true, ": expected a regular file");
}

/* As long as it may be: a good file, filled up with blanks. */
static void test_long_files(void **state) {
    (void)state;
    char *text = malloc(OH_TUNING_FILE_BYTES + 2);
    oh_tuning_file_t file;
    memset(text, ' ', OH_TUNING_FILE_BYTES + 1);
    memcpy(text, good, sizeof good - 1);
    text[OH_TUNING_FILE_BYTES] = '\0';
    assert_int_equal(oh_tuning_file_read(file_of("long", text), &file), ONEHOP_SUCCESS);
    oh_tuning_file_free(&file);
    text[OH_TUNING_FILE_BYTES] = ' ';
    text[OH_TUNING_FILE_BYTES + 1] = '\0';
    expect_unreadable(file_of("long", text), true, " is too long: expected at most 1048576 bytes");
    free(text);
}

/* ---- which table of a file ---- */

typedef struct tuned {
    const char *gpu;
    oh_links_t links;
    int nranks;
    onehop_dtype_t dtype;
    int max_blocks;
} tuned_t;

/* Tables that are told apart by what their only row asks for: blocks as many as their number, from 1. */
static int found_in(const tuned_t *tuned, int count, const oh_gpu_place_t *place, onehop_dtype_t dtype) {
    static oh_tuned_gpus_t gpus[16];
    for (int i = 0; i < count; i++) {
        const tuned_t *t = &tuned[i];
        gpus[i] = (oh_tuned_gpus_t){.links = t->links, .nranks = t->nranks, .dtype = t->dtype};
        gpus[i].max_blocks = t->max_blocks;
        snprintf(gpus[i].gpu, sizeof gpus[i].gpu, "%s", t->gpu);
        gpus[i].table.rows[0].blocks = i + 1;
    }
    const oh_tuning_file_t file = {.ngpus = count, .gpus = gpus};
    const oh_device_table_t *table = oh_tuning_find_gpus(&file, place, dtype);
    return table != NULL ? table->rows[0].blocks : 0;
}

static void test_tables_for_gpus(void **state) {
    (void)state;
    static const tuned_t tuned[] = {
        {"B", OH_NVLINK, 4, ONEHOP_FLOAT32, 0}, {"A", OH_PCIE, 4, ONEHOP_FLOAT32, 0},
        {"A", OH_NVLINK, 2, ONEHOP_FLOAT32, 0}, {"A", OH_NVLINK, 4, ONEHOP_FLOAT16, 32},
        {"A", OH_NVLINK, 4, ONEHOP_FLOAT16, 0}, {"A", OH_NVLINK, 4, ONEHOP_INT8, 16},
        {"A", OH_NVLINK, 4, ONEHOP_INT8, 64},   {"A", OH_NVLINK, 4, ONEHOP_FLOAT16, 8},
        {"A+", OH_PCIE, 4, ONEHOP_INT8, 8},
    };
    static const struct {
        oh_gpu_place_t place;
        onehop_dtype_t dtype;
        int number;
    } cases[] = {
        {{"B", OH_NVLINK, 4, 0, 0}, ONEHOP_FLOAT32, 1}, /* the same in everything */
        {{"B", OH_PCIE, 4, 0, 0}, ONEHOP_FLOAT32, 0},
        {{"B", OH_NVLINK, 2, 0, 0}, ONEHOP_FLOAT32, 0},
        {{"C", OH_NVLINK, 4, 0, 0}, ONEHOP_FLOAT32, 0},
        {{NULL, OH_NVLINK, 4, 0, 0}, ONEHOP_FLOAT32, 0},
        {{"A", OH_PCIE, 4, 0, 0}, ONEHOP_FLOAT32, 2},
        {{"A", OH_NVLINK, 2, 0, 0}, ONEHOP_FLOAT32, 3},
        {{"A+", OH_PCIE, 4, 0, 8}, ONEHOP_FLOAT32, 9},
        {{"B", OH_NVLINK, 4, 0, 0}, ONEHOP_UINT64, 1}, /* the only type that has a table */
        {{"B", OH_NVLINK, 4, 0, 7}, ONEHOP_FLOAT32, 0},
        {{"A", OH_NVLINK, 4, 0, 0}, ONEHOP_FLOAT16, 5},
        {{"A", OH_NVLINK, 4, 0, 32}, ONEHOP_FLOAT16, 4},
        {{"A", OH_NVLINK, 4, 0, 8}, ONEHOP_FLOAT16, 8},
        {{"A", OH_NVLINK, 4, 0, 31}, ONEHOP_FLOAT16, 0}, /* near, but not the bound */
        {{"A", OH_NVLINK, 4, 0, 33}, ONEHOP_FLOAT16, 0},
        {{"A", OH_NVLINK, 4, 0, 64}, ONEHOP_INT8, 7},
        {{"A", OH_NVLINK, 4, 0, 0}, ONEHOP_INT8, 5}, /* the first type with a table for this bound */
        {{"A", OH_NVLINK, 4, 0, 16}, ONEHOP_BFLOAT16, 6},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int number = found_in(tuned, sizeof tuned / sizeof *tuned, &cases[i].place, cases[i].dtype);
        if (number != cases[i].number) fail_msg("case %zu: table %d, expected %d", i, number, cases[i].number);
    }
}

static void test_tables_for_hosts(void **state) {
    (void)state;
    oh_tuning_file_t file = parsed(good);
    assert_ptr_equal(oh_tuning_find_hosts(&file, 2, OH_FAR, false), &file.hosts[0].table);
    assert_ptr_equal(oh_tuning_find_hosts(&file, 2, OH_NEAR, true), &file.hosts[1].table);
    assert_null(oh_tuning_find_hosts(&file, 2, OH_NEAR, false));
    assert_null(oh_tuning_find_hosts(&file, 2, OH_FAR, true));
    assert_null(oh_tuning_find_hosts(&file, 2, OH_OVERSUBSCRIBED, false));
    assert_null(oh_tuning_find_hosts(&file, 3, OH_FAR, false));
    oh_tuning_file_free(&file);
}

/* ---- what is in force ---- */

static oh_config_t config_for(int nranks, oh_tuning_source_t source, const char *file) {
    oh_config_t config = {.nranks = nranks, .tuning = source};
    snprintf(config.tuning_file, sizeof config.tuning_file, "%s", file);
    return config;
}

static void expect_hosts(const oh_config_t *config, const char *text, bool tuned) {
    static oh_host_tuning_t tuning;
    static oh_host_tables_t built_in;
    oh_built_in_hosts(&built_in);
    if (oh_tuning_for_hosts(config, &tuning) != ONEHOP_SUCCESS) fail_msg("%s", onehop_last_error());
    assert_string_equal(tuning.text, text);
    for (int i = 0; i < 2 * OH_PLACEMENTS; i++) {
        const oh_host_table_t *table = &tuning.tables.of[i / 2][i % 2];
        bool from_file = tuned && (i == 2 * OH_FAR || i == 2 * OH_NEAR + 1);
        assert_string_equal(table->name, from_file ? "t.json" : "built-in table");
        if (!from_file) assert_memory_equal(table, &built_in.of[i / 2][i % 2], sizeof *table);
    }
}

static void test_in_force_on_hosts(void **state) {
    (void)state;
    char text[OH_TUNING_TEXT], bad[TEXT];
    oh_host_tuning_t tuning;
    oh_config_t config = config_for(2, OH_TUNING_BUILT_IN, "");
    expect_hosts(&config, "built-in table", false);
    config = config_for(2, OH_TUNING_MODEL, "model");
    expect_hosts(&config, "built-in table", false);
    config = config_for(2, OH_TUNING_USUAL, "/none/tuning.json");
    expect_hosts(&config, "built-in table", false);
    for (oh_tuning_source_t source = OH_TUNING_NAMED; source <= OH_TUNING_USUAL; source++) {
        config = config_for(2, source, file_of("t.json", good));
        snprintf(text, sizeof text, "%s, made 2026-11-21 on here", config.tuning_file);
        expect_hosts(&config, text, true);
        config.nranks = 3;
        snprintf(text, sizeof text, "built-in table; there is none for these ranks in %s", config.tuning_file);
        expect_hosts(&config, text, false);
    }
    edit(good, "\"stream\": true", "\"stream\": 1", bad);
    config = config_for(2, OH_TUNING_USUAL, file_of("t.json", bad));
    snprintf(text, sizeof text,
             "built-in table; refused: tuning file %s: table 2, row 2: stream is 1: expected true or false",
             config.tuning_file);
    expect_hosts(&config, text, false);
    config.tuning = OH_TUNING_NAMED;
    assert_int_equal(oh_tuning_for_hosts(&config, &tuning), ONEHOP_INVALID_ARGUMENT);
    assert_string_equal(onehop_last_error(), text + strlen("built-in table; refused: "));
    config = config_for(2, OH_TUNING_NAMED, "/none/tuning.json");
    assert_int_equal(oh_tuning_for_hosts(&config, &tuning), ONEHOP_INVALID_ARGUMENT);
}

static void expect_gpus(const oh_config_t *config, const oh_gpu_place_t *place, const char *text, const char *name) {
    static oh_device_tuning_t tuning;
    if (oh_tuning_for_gpus(config, place, &tuning) != ONEHOP_SUCCESS) fail_msg("%s", onehop_last_error());
    assert_string_equal(tuning.text, text);
    for (int dtype = 0; dtype < OH_DTYPES; dtype++) {
        assert_string_equal(tuning.tables[dtype].name, name);
        assert_true(tuning.tables[dtype].count > 0);
    }
}

static void test_in_force_on_gpus(void **state) {
    (void)state;
    static const char h200[] = "built-in table for NVIDIA H200";
    char text[OH_TUNING_TEXT];
    oh_device_tuning_t *tuning = malloc(sizeof *tuning);
    oh_device_table_t built_in;
    oh_gpu_place_t place = {"NVIDIA H200", OH_NVLINK, 4, 132, 0}, pcie = {"NVIDIA H200", OH_PCIE, 4, 132, 0};
    oh_gpu_place_t other = {"NVIDIA FOO", OH_NVLINK, 2, 80, 0}, mixed = {NULL, OH_PCIE, 2, 80, 0};
    oh_gpu_place_t narrow = {"NVIDIA H200", OH_NVLINK, 4, 32, 32};
    oh_config_t config = config_for(4, OH_TUNING_BUILT_IN, "");
    expect_gpus(&config, &place, h200, h200);
    assert_int_equal(oh_tuning_for_gpus(&config, &place, tuning), ONEHOP_SUCCESS);
    assert_true(oh_built_in_gpus("NVIDIA H200", OH_NVLINK, 4, &built_in));
    assert_memory_equal(&tuning->tables[3], &built_in, sizeof built_in);
    free(tuning);
    expect_gpus(&config, &pcie, "model: there is no table for NVIDIA H200 over pcie", "model");
    expect_gpus(&config, &other, "model: there is no table for NVIDIA FOO over nvlink", "model");
    expect_gpus(&config, &mixed, "model: the GPUs differ", "model");
    expect_gpus(&config, &narrow, "model: the built-in table for NVIDIA H200 is for 132 blocks, not 32", "model");
    config.tuning = OH_TUNING_MODEL;
    expect_gpus(&config, &place, "model: the configuration asks for it", "model");

    config = config_for(4, OH_TUNING_NAMED, file_of("t.json", good));
    snprintf(text, sizeof text, "%s, made 2026-11-21 on here", config.tuning_file);
    expect_gpus(&config, &place, text, "t.json, bfloat16");
    snprintf(text, sizeof text, "model: the GPUs differ; there is none for these ranks in %s", config.tuning_file);
    expect_gpus(&config, &mixed, text, "model");
    config = config_for(4, OH_TUNING_USUAL, file_of("t.json", "{}"));
    snprintf(text, sizeof text, "%s; refused: tuning file %s: schema is missing: expected \"onehop-tuning-1\"", h200,
             config.tuning_file);
    expect_gpus(&config, &place, text, h200);
}

/* ---- rank 0's is that of all ---- */

typedef struct shared {
    oh_host_tuning_t tuning[RANKS];
    onehop_result_t first; /* what comes of rank 0's search */
} shared_t;

static onehop_result_t share(sailor_t *s) {
    shared_t *shared = s->ctx;
    oh_host_tuning_t *mine = &shared->tuning[s->rank];
    memset(mine, s->rank + 1, sizeof *mine);
    onehop_result_t found = ONEHOP_SUCCESS;
    if (s->rank == 0 && shared->first != ONEHOP_SUCCESS) found = oh_fail(shared->first, "no table");
    OH_TRY(oh_agree_with_first(s->bootstrap, "tuning", found, mine, sizeof *mine, &s->patience));
    return oh_agree_with_first(s->bootstrap, "tuning", found, mine, 1, &s->patience);
}

static void test_all_follow_the_first(void **state) {
    (void)state;
    sailor_t sailors[RANKS];
    shared_t *shared = malloc(sizeof *shared);
    int before = descriptors_now();
    for (int processes = 0; processes < 2; processes++) {
        shared->first = ONEHOP_SUCCESS;
        crew_run(RANKS, processes == 1, share, shared, sailors);
        for (int r = 0; r < RANKS; r++) {
            assert_string_equal(sailors[r].wrong, "");
            assert_int_equal(sailors[r].result, ONEHOP_SUCCESS);
            assert_memory_equal(&shared->tuning[r], &shared->tuning[0], sizeof shared->tuning[0]);
            assert_int_equal(shared->tuning[r].text[sizeof shared->tuning[r].text - 1], 1);
        }
        shared->first = ONEHOP_INVALID_ARGUMENT;
        crew_run(RANKS, processes == 1, share, shared, sailors);
        for (int r = 0; r < RANKS; r++) {
            assert_int_equal(sailors[r].result, ONEHOP_INVALID_ARGUMENT);
            assert_string_equal(sailors[r].error, "rank 0: no table");
            assert_int_equal(shared->tuning[r].text[0], r + 1);
        }
        assert_int_equal(descriptors_now(), before);
    }
    free(shared);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good_file),
        cmocka_unit_test(test_bad_files),
        cmocka_unit_test(test_too_many),
        cmocka_unit_test(test_not_json),
        cmocka_unit_test(test_files),
        cmocka_unit_test(test_long_files),
        cmocka_unit_test(test_tables_for_gpus),
        cmocka_unit_test(test_tables_for_hosts),
        cmocka_unit_test(test_in_force_on_hosts),
        cmocka_unit_test(test_in_force_on_gpus),
        cmocka_unit_test(test_all_follow_the_first),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
