/* getaddrinfo(3) once, with plain hints, as a mail program calls it. usage: lookup any|ipv4|ipv6 NAME
 * Built with musl-gcc -static, it is musl's resolver on any Linux. Exit 0: addresses printed; 2: none, with the reason. */
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

int main(int argc, char **argv) {
    struct addrinfo hints, *found, *one;
    char text[64];
    if (argc != 3) return 64;
    memset(&hints, 0, sizeof hints);
    hints.ai_socktype = SOCK_STREAM;
    hints.ai_family = !strcmp(argv[1], "ipv4") ? AF_INET : !strcmp(argv[1], "ipv6") ? AF_INET6 : AF_UNSPEC;
    int error = getaddrinfo(argv[2], NULL, &hints, &found);
    if (error) {
        puts(gai_strerror(error));
        return 2;
    }
    for (one = found; one; one = one->ai_next)
        if (!getnameinfo(one->ai_addr, one->ai_addrlen, text, sizeof text, NULL, 0, NI_NUMERICHOST)) puts(text);
    freeaddrinfo(found);
    return 0;
}
