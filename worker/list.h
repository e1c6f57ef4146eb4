/* SPDX-License-Identifier: Apache-2.0 */
/* Intrusive doubly linked lists.  A node whose next is NULL is on no list. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#define container_of(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))

struct list {
        struct list *next, *prev;
};

static inline void list_init(struct list *head) {
        head->next = head->prev = head;
}
static inline bool list_empty(const struct list *head) {
        return head->next == head;
}
static inline bool list_linked(const struct list *node) {
        return node->next != NULL;
}
static inline void list_append(struct list *head, struct list *node) {
        node->prev = head->prev;
        node->next = head;
        head->prev->next = node;
        head->prev = node;
}
static inline void list_prepend(struct list *head, struct list *node) {
        node->next = head->next;
        node->prev = head;
        head->next->prev = node;
        head->next = node;
}
static inline void list_remove(struct list *node) {
        if (!node->next)
                return;
        node->prev->next = node->next;
        node->next->prev = node->prev;
        node->next = node->prev = NULL;
}

/* The first node, taken off; NULL when the list is empty. */
static inline struct list *list_pop(struct list *head) {
        struct list *node = head->next;

        if (node == head)
                return NULL;
        head->next = node->next;
        node->next->prev = head;
        node->next = node->prev = NULL;
        return node;
}

/* Safe against removal of the current node, not of the one after it. */
#define list_for_each(it, head) for (struct list *it = (head)->next, *it##_n; it##_n = it->next, it != (head); it = it##_n)
