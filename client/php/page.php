<?php

// A page that counts its views and their duration. To try it:
//
//     OPERATIONS=udp:127.0.0.1:6557 php -S localhost:8000 page.php

require __DIR__ . '/Operations.php';

$metrics = new Operations(getenv('OPERATIONS') ?: 'unixgram:/run/exporter-proxy-datagrams.sock');
$begun = microtime(true);

// Runs however the page ends.
register_shutdown_function(function () use ($metrics, $begun) {
    // Do not use the requested path as a label: anyone could create series with it.
    $labels = ['page' => 'hello'];
    $code = ['code' => http_response_code()];
    $metrics->inc('page_views_total', 1, $labels + $code, ['help' => 'Pages served.']);
    $metrics->obs('page_seconds', microtime(true) - $begun, $labels, [
        'help' => 'Duration of pages in seconds.',
        'bucket_custom' => [0.01, 0.05, 0.1, 0.5, 1, 5],
    ]);
});

if (isset($_GET['missing'])) {
    http_response_code(404);
}
echo "<!DOCTYPE html>\n<title>Hello</title>\n<p>Hello!</p>\n";
