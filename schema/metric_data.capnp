@0xfb4ded7f739d5651;

# One message: the exposition text of an app, which replaces its previous text.
#
# Deployed senders rely on the names, ordinals and ids: fields may be added with
# higher ordinals, but never changed or removed.
struct InboundMetrics @0xa51eb28a3fe040a9 {
    # Name of the app: UTF-8, 1 to receiver.max_app_name bytes (256 by default).
    appName @0 :Text;

    # Exposition text in format 0.0.4, UTF-8.
    data @1 :Text;
}
