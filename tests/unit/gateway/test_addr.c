/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/addr.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static struct sockaddr_storage read_addr(const char *text) {
        struct sockaddr_storage out = {.ss_family = strchr(text, ':') ? AF_INET6 : AF_INET};
        void *to = out.ss_family == AF_INET ? (void *)&((struct sockaddr_in *)&out)->sin_addr
                                            : (void *)&((struct sockaddr_in6 *)&out)->sin6_addr;

        assert_int_equal(inet_pton(out.ss_family, text, to), 1);
        return out;
}

static const struct {
        const char *text;
        enum addr_class class;
} rows[] = {
        {"1.1.1.1", ADDR_PUBLIC},
        {"93.184.216.34", ADDR_PUBLIC},
        {"172.15.255.255", ADDR_PUBLIC},
        {"172.32.0.0", ADDR_PUBLIC},
        {"198.17.255.255", ADDR_PUBLIC},
        {"198.20.0.0", ADDR_PUBLIC},
        {"223.255.255.255", ADDR_PUBLIC},
        {"100.63.255.255", ADDR_PUBLIC},
        {"100.128.0.0", ADDR_PUBLIC},
        {"0.0.0.0", ADDR_RESERVED},
        {"0.1.2.3", ADDR_RESERVED},
        {"10.0.0.1", ADDR_PRIVATE},
        {"100.64.0.1", ADDR_PRIVATE},
        {"100.127.255.255", ADDR_PRIVATE},
        {"172.16.0.0", ADDR_PRIVATE},
        {"172.31.255.255", ADDR_PRIVATE},
        {"192.168.1.1", ADDR_PRIVATE},
        {"127.0.0.1", ADDR_LOOPBACK},
        {"127.255.255.255", ADDR_LOOPBACK},
        {"169.254.0.1", ADDR_LINK_LOCAL},
        {"169.254.169.254", ADDR_METADATA},
        {"168.63.129.16", ADDR_METADATA},
        {"100.100.100.200", ADDR_METADATA},
        {"192.0.0.192", ADDR_METADATA},
        {"192.0.0.1", ADDR_RESERVED},
        {"192.0.2.1", ADDR_RESERVED},
        {"198.18.0.1", ADDR_RESERVED},
        {"198.19.255.255", ADDR_RESERVED},
        {"198.51.100.1", ADDR_RESERVED},
        {"203.0.113.1", ADDR_RESERVED},
        {"224.0.0.1", ADDR_MULTICAST},
        {"239.255.255.255", ADDR_MULTICAST},
        {"240.0.0.1", ADDR_RESERVED},
        {"255.255.255.255", ADDR_RESERVED},
        {"2606:4700:4700::1111", ADDR_PUBLIC},
        {"2a00:1450:4001::1", ADDR_PUBLIC},
        {"::", ADDR_RESERVED},
        {"::1", ADDR_LOOPBACK},
        {"::127.0.0.1", ADDR_EMBEDDED},
        {"::ffff:127.0.0.1", ADDR_EMBEDDED},
        {"::ffff:1.1.1.1", ADDR_EMBEDDED},
        {"::ffff:0:169.254.169.254", ADDR_EMBEDDED},
        {"64:ff9b::169.254.169.254", ADDR_EMBEDDED},
        {"64:ff9b:1::1", ADDR_EMBEDDED},
        {"2002:7f00:1::1", ADDR_EMBEDDED},
        {"2001:0:4136:e378::1", ADDR_EMBEDDED},
        {"2001:db8::1", ADDR_RESERVED},
        {"2001:10::1", ADDR_RESERVED},
        {"fe80::1", ADDR_LINK_LOCAL},
        {"febf::1", ADDR_LINK_LOCAL},
        {"fec0::1", ADDR_PRIVATE},
        {"fc00::1", ADDR_PRIVATE},
        {"fd12:3456::1", ADDR_PRIVATE},
        {"fd00:ec2::254", ADDR_METADATA},
        {"fd00:ec2::23", ADDR_METADATA},
        {"fd00:ec3::254", ADDR_PRIVATE},
        {"fd20:ce::254", ADDR_METADATA},
        {"fd20:ce::253", ADDR_PRIVATE},
        {"fd00:42::42", ADDR_METADATA},
        {"fd00:42::43", ADDR_PRIVATE},
        {"fdff:ffff::1", ADDR_PRIVATE},
        {"fe00::1", ADDR_RESERVED},
        {"2001:1ff:ffff::1", ADDR_RESERVED},
        {"2001:200::1", ADDR_PUBLIC},
        {"2001:db7::1", ADDR_PUBLIC},
        {"2001:db9::1", ADDR_PUBLIC},
        {"2003::1", ADDR_PUBLIC},
        {"3fff:fff::1", ADDR_RESERVED},
        {"3fff:1000::1", ADDR_PUBLIC},
        {"1fff::1", ADDR_RESERVED},
        {"ff02::1", ADDR_MULTICAST},
        {"100::1", ADDR_RESERVED},
        {"4000::1", ADDR_RESERVED},
        {"5f00::1", ADDR_RESERVED},
};

static void every_address_has_its_class(void **state) {
        for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
                struct sockaddr_storage a = read_addr(rows[i].text);
                if (addr_classify((void *)&a) != rows[i].class)
                        print_error("%s is %s\n", rows[i].text, addr_class_text(addr_classify((void *)&a)));
                assert_int_equal(addr_classify((void *)&a), rows[i].class);
        }
}

static void a_name_leads_to_public_addresses_only(void **state) {
        for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
                struct sockaddr_storage a = read_addr(rows[i].text);
                assert_int_equal(addr_may_dial((void *)&a, ADDR_WORD_NAME), rows[i].class == ADDR_PUBLIC);
        }
}

static void an_approval_never_reaches_metadata_loopback_or_link_local(void **state) {
        for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
                struct sockaddr_storage a = read_addr(rows[i].text);
                assert_int_equal(addr_may_dial((void *)&a, ADDR_WORD_APPROVAL),
                                 rows[i].class == ADDR_PUBLIC || rows[i].class == ADDR_PRIVATE);
        }
}

static void the_operators_own_name_may_lead_inside_but_not_to_metadata(void **state) {
        for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
                struct sockaddr_storage a = read_addr(rows[i].text);
                assert_int_equal(addr_may_dial((void *)&a, ADDR_WORD_TO_NAME), rows[i].class == ADDR_PUBLIC ||
                                                                                       rows[i].class == ADDR_PRIVATE ||
                                                                                       rows[i].class == ADDR_LOOPBACK);
        }
}

static void a_literal_is_what_it_is(void **state) {
        struct sockaddr_storage a = read_addr("127.0.0.1"), local = {.ss_family = AF_UNIX};

        assert_true(addr_may_dial((void *)&a, ADDR_WORD_LITERAL));
        assert_false(addr_may_dial((void *)&local, ADDR_WORD_LITERAL));
        assert_int_equal(addr_classify((void *)&local), ADDR_RESERVED);
}

static void mapped_addresses_are_unmapped(void **state) {
        struct sockaddr_storage a = read_addr("::ffff:127.0.0.1"), b = read_addr("2606:4700::1");
        char text[ADDR_TEXT_MAX], with_port[64];

        ((struct sockaddr_in6 *)&a)->sin6_port = htons(443);
        addr_unmap(&a);
        assert_int_equal(addr_classify((void *)&a), ADDR_LOOPBACK);
        addr_text_port((void *)&a, with_port, sizeof(with_port));
        assert_string_equal(with_port, "127.0.0.1:443");
        addr_unmap(&b);
        addr_text((void *)&b, text);
        assert_string_equal(text, "2606:4700::1");
        addr_text_port((void *)&b, with_port, sizeof(with_port));
        assert_string_equal(with_port, "[2606:4700::1]:0");
}

/* What is unmapped is compared and dialled as a whole: nothing of the former address may be left in it. */
static void an_unmapped_address_is_like_one_that_never_was_mapped(void **state) {
        struct sockaddr_storage mapped, plain, other = {.ss_family = AF_UNIX}, same = other;
        char text[ADDR_TEXT_MAX];

        memset(&mapped, 0, sizeof(mapped));
        memset(&plain, 0, sizeof(plain));
        *(struct sockaddr_in6 *)&mapped = (struct sockaddr_in6){
                .sin6_family = AF_INET6, .sin6_port = htons(80), .sin6_scope_id = 7, .sin6_flowinfo = 9};
        inet_pton(AF_INET6, "::ffff:192.0.2.1", &((struct sockaddr_in6 *)&mapped)->sin6_addr);
        *(struct sockaddr_in *)&plain = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(80)};
        inet_pton(AF_INET, "192.0.2.1", &((struct sockaddr_in *)&plain)->sin_addr);
        addr_unmap(&mapped);
        assert_memory_equal(&mapped, &plain, sizeof(plain));
        assert_int_equal(addr_port((void *)&mapped), 80);
        assert_int_equal(addr_len((void *)&mapped), sizeof(struct sockaddr_in));
        memset((char *)&other + 2, 0xff, sizeof(other) - 2);
        memset((char *)&same + 2, 0xff, sizeof(same) - 2);
        for (int i = 0; i < 10; i++) /* as a mapped one has it there */
                ((uint8_t *)&other)[8 + i] = ((uint8_t *)&same)[8 + i] = 0;
        addr_unmap(&other);
        assert_memory_equal(&other, &same, sizeof(other));
        addr_text((void *)&other, text);
        assert_string_equal(text, "unknown");
        assert_int_equal(addr_port((void *)&other), 0);
}

static void an_ipv6_address_has_its_own_length_and_port(void **state) {
        struct sockaddr_storage a = read_addr("2606:4700::1");

        ((struct sockaddr_in6 *)&a)->sin6_port = htons(8443);
        assert_int_equal(addr_port((void *)&a), 8443);
        assert_int_equal(addr_len((void *)&a), sizeof(struct sockaddr_in6));
}

static void names_of_this_host_and_of_metadata_are_known(void **state) {
        assert_true(addr_name_never("localhost"));
        assert_true(addr_name_never("x.localhost"));
        assert_true(addr_name_never("metadata.google.internal"));
        assert_false(addr_name_never("notlocalhost"));
        assert_false(addr_name_never("xlocalhost"));
        assert_false(addr_name_never("x"));
        assert_false(addr_name_never("localhost.example.com"));
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(every_address_has_its_class),
                cmocka_unit_test(a_name_leads_to_public_addresses_only),
                cmocka_unit_test(an_approval_never_reaches_metadata_loopback_or_link_local),
                cmocka_unit_test(the_operators_own_name_may_lead_inside_but_not_to_metadata),
                cmocka_unit_test(a_literal_is_what_it_is),
                cmocka_unit_test(mapped_addresses_are_unmapped),
                cmocka_unit_test(an_unmapped_address_is_like_one_that_never_was_mapped),
                cmocka_unit_test(an_ipv6_address_has_its_own_length_and_port),
                cmocka_unit_test(names_of_this_host_and_of_metadata_are_known),
        };
        cmocka_set_message_output(CM_OUTPUT_TAP);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
