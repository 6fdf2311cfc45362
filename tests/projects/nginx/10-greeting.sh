#!/bin/sh
echo "greeting: ${GREETING:-none}" >/usr/share/nginx/html/greeting.txt
