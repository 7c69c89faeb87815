/* A Modbus device by libmodbus, for tests: server tcp PORT | server rtu DEVICE ADDRESS
 *
 * Each register says where it is and when it was read: address % 512 * 128 + requests % 128. A coil or discrete input
 * is 1 where its address is divisible by 3. With a third and fourth number, HOLE SIZE, the registers from HOLE on do
 * not exist: whoever touches one gets exception 2, as from a device with a gap in its map.
 * Writes are refused with exception 1. On SIGTERM, or when standard input ends, prints one line of JSON: how many
 * requests there were of each function code.
 */
#include <errno.h>
#include <modbus.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/select.h>
#include <unistd.h>

#define REGISTERS 2000

static unsigned long counts[256];
static unsigned long requests;
static volatile sig_atomic_t ended;

static void on_term(int number) {
    (void)number;
    ended = 1;
}

static void report(void) {
    const char *comma = "";
    printf("{");
    for (int code = 0; code < 256; code++)
        if (counts[code]) {
            printf("%s\"%d\": %lu", comma, code, counts[code]);
            comma = ", ";
        }
    printf("}\n");
    fflush(stdout);
}

static void answer(modbus_t *context, modbus_mapping_t *map, const uint8_t *query, int length, int hole, int size) {
    int at = modbus_get_header_length(context);
    int function = query[at];
    int address = query[at + 1] << 8 | query[at + 2];
    int count = query[at + 3] << 8 | query[at + 4];
    counts[function]++;
    requests++;
    if (function < 1 || function > 4) {
        modbus_reply_exception(context, query, MODBUS_EXCEPTION_ILLEGAL_FUNCTION);
        return;
    }
    if (size && address < hole + size && hole < address + count) {
        modbus_reply_exception(context, query, MODBUS_EXCEPTION_ILLEGAL_DATA_ADDRESS);
        return;
    }
    for (int i = 0; i < REGISTERS; i++)
        map->tab_registers[i] = map->tab_input_registers[i] = (uint16_t)(i % 512 * 128 + requests % 128);
    modbus_reply(context, query, length, map);
}

int main(int argc, char **argv) {
    if (argc < 3)
        return 2;
    int tcp = strcmp(argv[1], "tcp") == 0;
    int hole = argc > 5 ? atoi(argv[4]) : 0, size = argc > 5 ? atoi(argv[5]) : 0;
    modbus_t *context = tcp ? modbus_new_tcp("127.0.0.1", atoi(argv[2])) : modbus_new_rtu(argv[2], 115200, 'N', 8, 1);
    modbus_mapping_t *map = modbus_mapping_new(REGISTERS, REGISTERS, REGISTERS, REGISTERS);
    if (context == NULL || map == NULL)
        return 1;
    for (int i = 0; i < REGISTERS; i++)
        map->tab_bits[i] = map->tab_input_bits[i] = i % 3 == 0;
    if (argc > 3)
        modbus_set_slave(context, atoi(argv[3]));
    struct sigaction action = {.sa_handler = on_term};
    sigaction(SIGTERM, &action, NULL);
    int listener = tcp ? modbus_tcp_listen(context, 8) : -1;
    if (tcp ? listener < 0 : modbus_connect(context) < 0) {
        fprintf(stderr, "%s\n", modbus_strerror(errno));
        return 1;
    }
    printf("ready\n");
    fflush(stdout);

    fd_set all;
    FD_ZERO(&all);
    FD_SET(STDIN_FILENO, &all);
    int first = tcp ? listener : modbus_get_socket(context), most = first;
    FD_SET(first, &all);
    while (!ended) {
        fd_set ready = all;
        if (select(most + 1, &ready, NULL, NULL, NULL) < 0)
            continue;
        if (FD_ISSET(STDIN_FILENO, &ready)) {
            char line[64];
            if (read(STDIN_FILENO, line, sizeof line) <= 0)
                break;
        }
        for (int fd = STDIN_FILENO + 1; fd <= most; fd++) {
            if (!FD_ISSET(fd, &ready))
                continue;
            if (tcp && fd == listener) {
                int accepted = modbus_tcp_accept(context, &listener);
                if (accepted >= 0) {
                    FD_SET(accepted, &all);
                    most = accepted > most ? accepted : most;
                }
                continue;
            }
            uint8_t query[MODBUS_TCP_MAX_ADU_LENGTH];
            if (tcp)
                modbus_set_socket(context, fd);
            int length = modbus_receive(context, query);
            if (length > 0)
                answer(context, map, query, length, hole, size);
            else if (length < 0 && tcp) {
                close(fd);
                FD_CLR(fd, &all);
            }
        }
    }
    report();
    modbus_mapping_free(map);
    modbus_free(context);
    return 0;
}
