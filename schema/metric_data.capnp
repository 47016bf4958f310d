@0xfb4ded7f739d5651;

# One push: the text an app exposes now, which replaces what it pushed before.
#
# The names, ordinals and ids are a wire format that senders in the field rely
# on: fields may be added with higher ordinals, never changed or removed.
struct InboundMetrics @0xa51eb28a3fe040a9 {
    # The name under which the text is kept: 1 to 256 bytes of UTF-8.
    appName @0 :Text;

    # Exposition text, UTF-8.
    data @1 :Text;
}
