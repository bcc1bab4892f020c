<?php
/**
 * Takes the settings along, and with them the key. Orders keep what they say.
 *
 * @package PocketsflowGateway
 */

defined( 'WP_UNINSTALL_PLUGIN' ) || exit;

delete_option( 'woocommerce_pocketsflow_settings' );
