<?php

/**
 * Counters, gauges and histograms for pages; exporter-proxy keeps the values.
 *
 *     require 'Operations.php';
 *     $metrics = new Operations('unixgram:/run/exporter-proxy-datagrams.sock');
 *     $metrics->inc('page_views_total', 1, ['page' => 'home']);
 *     $metrics->set('queue_length', 4);
 *     $metrics->add('visitors', -1);
 *     $metrics->obs('page_seconds', 0.25, ['page' => 'home'], ['bucket_custom' => [0.1, 0.5, 1]]);
 *     $metrics->del('queue_length');
 *
 * The address is `unixgram:PATH` (operations.unix_datagram_sockets) or
 * `udp:ADDRESS:PORT` (operations.udp; an IP address avoids resolving a name).
 * Requires PHP 7.2 or newer with the extension `sockets`.
 *
 * Each call sends one datagram and gets no answer. A call that fails returns
 * false; it throws nothing, warns of nothing, and all calls of a page together
 * wait at most 20 ms. The proxy logs and counts rejected messages in
 * exporter_proxy_operations_total.
 */
final class Operations
{
    private const LONGEST_WAIT = ['sec' => 0, 'usec' => 20000];

    private $address;
    private $socket;

    public function __construct(string $address)
    {
        $this->address = $address;
    }

    /** Adds to a counter. */
    public function inc($name, $value = 1, array $labels = [], array $more = []): bool
    {
        return $this->send('inc', $name, $value, $labels, $more);
    }

    /** Sets a gauge. */
    public function set($name, $value, array $labels = [], array $more = []): bool
    {
        return $this->send('set', $name, $value, $labels, $more);
    }

    /** Adds to a gauge; $value may be negative. */
    public function add($name, $value, array $labels = [], array $more = []): bool
    {
        return $this->send('add', $name, $value, $labels, $more);
    }

    /** Observes a value. `$more` may contain buckets: bucket_custom and so on. */
    public function obs($name, $value, array $labels = [], array $more = []): bool
    {
        return $this->send('obs', $name, $value, $labels, $more);
    }

    /** Deletes a series. */
    public function del($name, array $labels = []): bool
    {
        return $this->send('del', $name, 0, $labels, []);
    }

    /** `$more` are further keys of the message: `help`, buckets. */
    private function send(string $op, $name, $value, array $labels, array $more): bool
    {
        // The page's error handler must not see warnings of this class.
        set_error_handler(static function () {
            return true;
        });
        try {
            if (!is_numeric($value)) {
                return false;
            }
            $message = json_encode(
                ['name' => (string) $name, 'op' => $op, 'value' => (float) $value]
                    // An empty array would become a JSON list.
                    + ['labels' => (object) array_map('strval', $labels)]
                    + $more,
                JSON_INVALID_UTF8_SUBSTITUTE
            );
            return is_string($message) && $this->datagram($message);
        } catch (\Throwable $problem) {
            // The extension may be missing.
            return false;
        } finally {
            restore_error_handler();
        }
    }

    private function datagram(string $message): bool
    {
        [$kind, $place] = explode(':', $this->address, 2);
        $port = 0;
        $family = AF_UNIX;
        if ($kind === 'udp') {
            if (!preg_match('/^(.+):([0-9]{1,5})$/D', $place, $parts)) {
                return false;
            }
            $port = (int) $parts[2];
            // PHP would truncate a larger port to another one.
            if ($port < 1 || $port > 65535) {
                return false;
            }
            $place = trim($parts[1], '[]');
            $family = strpos($place, ':') === false ? AF_INET : AF_INET6;
        }
        if (!$this->socket) {
            $this->socket = socket_create($family, SOCK_DGRAM, 0);
            // A Unix socket queues only a few datagrams; wait for it a little.
            socket_set_option($this->socket, SOL_SOCKET, SO_SNDTIMEO, self::LONGEST_WAIT);
        }
        $length = strlen($message);
        if (socket_sendto($this->socket, $message, $length, 0, $place, $port) === $length) {
            return true;
        }
        // Wait for a slow proxy only once per page.
        socket_set_nonblock($this->socket);
        return false;
    }
}
