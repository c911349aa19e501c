package roadstead;

import org.eclipse.paho.mqttv5.client.MqttConnectionOptions;

/** How a client connects; by default it is a new one, whose session ends with it. */
final class MqttOptions {
    String id = MqttSession.newId();
    /** Whether the session stays, and is resumed. */
    boolean keep;
    /** Whether the client connects again whenever its connection ends. */
    boolean comesBack;
    MqttClient.Will will;
    /** What only version 5 has. */
    MqttConnectionOptions five;

    MqttOptions id(String name) {
        id = name;
        return this;
    }

    MqttOptions keep() {
        keep = true;
        return this;
    }

    MqttOptions comesBack() {
        comesBack = true;
        return this;
    }

    MqttOptions will(MqttClient.Will last) {
        will = last;
        return this;
    }

    MqttOptions five(MqttConnectionOptions options) {
        five = options;
        return this;
    }
}
