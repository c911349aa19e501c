package roadstead;

import java.util.List;

/** The Eclipse Foundation's two Java clients, of MQTT 3.1 and 3.1.1 and of MQTT 5, against the broker in MQTT_URI. */
public final class MqttMain {
    private MqttMain() {}

    public static void main(String[] names) {
        if (System.getenv("MQTT_URI") == null) {
            System.err.println("MQTT_URI is not set, e.g. mqtt://guest:guest@127.0.0.1:1883");
            System.exit(2);
        }
        Suite suite = new Suite();
        MqttChecks checks = new MqttChecks(suite, List.of(names));
        checks.addAll();
        Mqtt5Checks.addTo(checks);
        MqttRestart.addTo(suite);
        System.exit(suite.run(List.of(names)) ? 0 : 1);
    }
}
